"""The recipes of Defense-GAN, whole, on small made files and as short as can be."""

from __future__ import annotations

import importlib.util
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

from spearshield import discover
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.recipe import Recipe
from spearshield.run import Run

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
}


def recipe(name):
    return discover.load("recipes", name).RECIPE


def shortened(value):
    """A copy with small numbers wherever there are large ones."""
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


def small(recipe: Recipe, folder: Path, weights: str) -> Run:
    name = discover.name_of(recipe.data)
    path = Path(__file__).parent / "datasets" / f"test_{name}.py"
    spec = importlib.util.spec_from_file_location(f"small_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = folder / "data"
    if not data.exists():
        module.small(data)
    recipe = shortened(recipe)
    given = tuple(
        replace(t, method=replace(t.method, weights=weights))
        if isinstance(t.method, DefenseGAN) and t.method.weights
        else t
        for t in recipe.defences
    )
    return Run(replace(recipe, defences=given), "small", folder / "run", data)


def test_a_generator_and_all_that_is_measured_with_it(tmp_path):
    """Fashion-MNIST's are MNIST's on other data."""
    first = small(recipe("defense_gan_fashion_mnist_generator"), tmp_path, "")
    first()
    weights = tmp_path / "weights.safetensors"
    (first.folder / "defense_gan" / "weights.safetensors").rename(weights)
    whole = recipe("defense_gan_fashion_mnist")
    run = replace(small(whole, tmp_path, str(weights)), folder=tmp_path / "second")
    rows = run()
    victims = [name for name in run.trainings if "substitute" not in name]
    assert list(dict.fromkeys(row.method for row in rows)) == victims
    assert len(victims) == 7
    searching = ("orig", "rec", "fast")
    for victim in victims:
        met = {(row.attack, row.view) for row in rows if row.method == victim}
        learnt = [
            row for row in rows if row.method == victim and row.attack.startswith("substitute")
        ]
        assert len(learnt) == 2 and all(row.parameters["attack"]["queries"] == 6 for row in learnt)
        assert len({str(row.parameters["attack"]["training"]) for row in learnt}) == 2
        guarded = {
            ("pgd", "bpda"),
            ("orthogonal_pgd", "detector_aware"),
            ("fgsm", "oblivious"),
            ("carlini_wagner", "oblivious"),
        }
        assert (guarded <= met) == (victim in (*searching, "magnet"))
        generated = {("latent_search", "in_range"), ("pgd", "bpda(stand_in)")}
        assert (generated <= met) == (victim in searching)
    detects = {row.method for row in rows if row.auc is not None}
    assert detects == {*searching, "magnet"}


def test_faces(tmp_path):
    faces = recipe("defense_gan_celeba")
    rows = small(replace(faces, data=replace(faces.data, validation=0)), tmp_path, "")()
    met = [(row.attack, row.view) for row in rows if row.method == "defense_gan"]
    assert ("latent_search", "in_range") in met and ("pgd", "adaptive") in met
    assert {row.images for row in rows} == {2}
