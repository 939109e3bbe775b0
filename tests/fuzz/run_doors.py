"""The doors of budgets and of whole runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

import spearshield as ss
from fuzz import models, samples
from fuzz.door import Door
from fuzz.oracle import Refusal, answered, check_images, command, require
from fuzz.values import Made, at, changed, paths, written
from spearshield.experiment.recipe import load_recipe
from spearshield.storage.serialization import dump

EPS = st.floats() | st.sampled_from(
    [
        0,
        1,
        8,
        8 / 255,
        -1,
        10**400,
        "8/255",
        None,
        True,
        0.5 + 0j,
        np.float32(0.1),
        torch.tensor(0.1),
        [],
    ]
)


def enter_budget(given: tuple[str, Any]) -> bool:
    """Make a budget and attack within it."""
    norm, eps = given
    threat = answered(lambda: getattr(ss, norm)(eps))
    if isinstance(threat, Refusal):
        return False
    require(
        bool(threat.eps > 0) and threat.eps < float("inf"),
        "a budget that is no positive number",
        threat,
    )
    x, y = torch.from_numpy(samples.images()).float() / 255, torch.from_numpy(samples.labels())
    x_adv = answered(lambda: ss.attacks.FGSM(threat)(models.build(), x, y))
    if isinstance(x_adv, Refusal):
        return False
    check_images(x_adv, "attacked images")
    require(bool(threat.contains(x_adv, x).all()), "outside the budget", threat)
    return True


BUDGET = Door("budgets", st.tuples(st.sampled_from(["Linf", "L2"]), EPS), enter_budget)


def small_recipe() -> Any:
    """A recipe that takes a moment, as JSON."""
    recipe = load_recipe("quickstart")
    bare, (defence,) = recipe.pretraining, recipe.defences
    assert bare is not None
    short = replace(
        recipe,
        pretraining=replace(bare, steps=1, batch_size=4),
        defences=(replace(defence, steps=1, batch_size=4),),
        trials=recipe.trials[:1] + recipe.trials[2:3],
        images=4,
    )
    return dump(short)


LONG = ("steps", "images", "restarts", "draws", "batch_size", "validation")
"""Fields that decide how long a run takes."""


@st.composite
def runs(draw: DrawFn) -> Made:
    """A short recipe with one or two numbers or texts changed, other than its length."""
    tree = small_recipe()
    how = []
    for _ in range(draw(st.integers(1, 2))):
        places = [
            p
            for p in paths(tree)
            if p and p[-1] not in LONG and not isinstance(at(tree, p), (dict, list))
        ]
        place = draw(st.sampled_from(places))
        old = at(tree, place)
        odd = st.sampled_from(
            [
                0,
                1,
                -1,
                2,
                7,
                10**5,
                10**9,
                0.5,
                1e-30,
                1e30,
                True,
                None,
                "",
                "x",
                "fgsm",
                "ape_gan",
                "undefended",
                "w.npz",
                "test",
                "train",
            ]
        )
        new = draw(odd | st.sampled_from([at(tree, p) for p in places]))
        tree = changed(tree, place, lambda _, new=new: new)
        how.append(f"{'.'.join(map(str, place))}: {old!r} -> {new!r}")
    return Made("; ".join(how), written(tree), whole=True)


def enter_run(made: Made) -> bool:
    """Run a whole recipe, and run it again."""
    samples.unpack(Path.cwd())
    Path("recipe.json").write_bytes(made.content)
    status = command(["run", "recipe.json", "--out", "out"])
    again = command(["run", "recipe.json", "--out", "out"])
    if isinstance(status, Refusal):
        require(isinstance(again, Refusal), "a refused run works the second time", status.message)
        return False
    require(again == 0, "a finished run cannot be repeated", again)
    samples.check_results(Path("out/results.json"))
    require(json.loads(Path("out/recipe.json").read_text())["name"] == "recipe", "another name")
    return True


RUN = Door("runs", runs(), enter_run, weight=0.5)

DOORS = (BUDGET, RUN)
