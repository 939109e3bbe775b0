"""Shortened recipes on small made files."""

from __future__ import annotations

import importlib.util
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

from spearshield import discover
from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.methods.encoder_projection import EncoderProjection

SHORT = {
    "steps": 2,
    "gan_steps": 1,
    "encoder_steps": 1,
    "restarts": 2,
    "width": 2,
    "latent": 4,
    "seeds": 3,
    "rounds": 2,
    "epochs": 1,
    "searches": 1,
    "batch_size": 3,
    "validation": 3,
    "images": 4,
    "unroll": 1,
    "student_steps": 1,
}


def recipe(name):
    return discover.load("recipes", name).RECIPE


def shortened(value):
    """A copy with the numbers of ``SHORT`` in place of larger ones."""
    if isinstance(value, tuple):
        return tuple(map(shortened, value))
    if not is_dataclass(value):
        return value
    old = {f.name: getattr(value, f.name) for f in fields(value)}
    new = {
        name: min(now, SHORT[name]) if name in SHORT and isinstance(now, int) else shortened(now)
        for name, now in old.items()
    }
    return replace(value, **new)


def small(recipe: Recipe, folder: Path, weights: str = "") -> Run:
    """A run of the shortened recipe.

    Args:
        weights: The file of the generator, for methods that need one.
    """
    name = discover.name_of(recipe.data)
    path = Path(__file__).parent / "datasets" / f"test_{name}.py"
    spec = importlib.util.spec_from_file_location(f"small_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = folder / "data"
    if not data.exists():
        module.small(data)
    recipe = shortened(recipe)
    given = tuple(replace(t, method=with_weights(t.method, weights)) for t in recipe.defences)
    return Run(replace(recipe, defences=given), "small", folder / "run", data)


def with_weights(method, weights):
    """The method, with ``weights`` in place of the generator's file, if it has one."""
    if isinstance(method, EncoderProjection):
        return replace(method, gan=with_weights(method.gan, weights))
    if isinstance(method, DefenseGAN) and method.weights:
        return replace(method, weights=weights)
    return method
