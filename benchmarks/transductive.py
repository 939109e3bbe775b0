"""Frozen and transductive batch normalisation side by side, as JSON on the standard output.

    python benchmarks/transductive.py RUN/TRAINING ... > transductive.json

The release of Wang and Yu evaluates with the statistics of the test batch. Here each network is
attacked and evaluated with its running averages (frozen) and with the statistics of batches of 100
test images (transductive), under FGSM and PGD-10 with the budget of the recipe. The transductive
prediction for an image depends on the other images, so it is no accuracy of a classifier.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.experiment.opened import open_run
from spearshield.nets.transductive import Transductive

IMAGES, BATCH = 1_000, 100


def accuracies(training: Path) -> dict[str, dict[str, float]]:
    """Accuracy on clean and on attacked images, as shares, for each kind of statistics."""
    run = open_run(training)
    images = run.recipe.data.load(run.recipe.split)[:IMAGES]
    frozen = run.victim
    budget = run.recipe.trials[0].attack.threat
    pgd = PGD(budget, steps=10, step_size=budget.eps / 4, early_stop=False)
    attacks = {"FGSM": FGSM(budget), "PGD-10": pgd}
    found: dict[str, dict[str, float]] = {}
    for name, model in {"frozen": frozen, "transductive": Transductive(frozen).eval()}.items():
        right = dict.fromkeys(("clean", *attacks), 0)
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            x, y = part.images(), part.y
            shown = [x, *(attack(model, x, y) for attack in attacks.values())]
            for key, each in zip(right, shown, strict=True):
                right[key] += number_right(model, each, y)
        found[name] = {key: count / len(images) for key, count in right.items()}
    return found


@torch.no_grad()
def number_right(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> int:
    """The number of images that are classified as ``y``."""
    return int((model(x).argmax(1) == y).sum())


if __name__ == "__main__":
    print(json.dumps({path.name: accuracies(path) for path in map(Path, sys.argv[1:])}, indent=1))
