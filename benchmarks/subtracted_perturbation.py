"""An attacker who subtracts the universal inverse perturbation of UIPD, as JSON.

    python benchmarks/subtracted_perturbation.py RUN > subtracted.json

RUN is a run of ``inverse_perturbation_mnist`` with ``uipd``. PGD attacks the bare classifier, and
the perturbation u of the defence is subtracted from its images; x + delta - u + u = x + delta, so
the defence adds nothing. Without a bound, the images leave [0, 1] and the budget; within the
budget, delta - u is clipped. The third attacker has the same budget and differentiates the defence.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from spearshield.attacks.pgd import PGD
from spearshield.experiment.opened import open_run
from spearshield.threat import Linf

IMAGES = 1_000
BUDGET = Linf(0.3)


def measured(folder: Path) -> dict[str, float]:
    """The accuracy of the defence and of the bare classifier, as shares of the test images."""
    run = open_run(folder / "uipd")
    images = run.recipe.data.load("test")[:IMAGES]
    defended = run.victim
    bare, u = defended.classifier, defended.purifier.u
    x, y = images.images(), images.y
    attack = PGD(BUDGET, steps=40, step_size=0.02, early_stop=False)

    @torch.no_grad()
    def accuracy(model: torch.nn.Module, attacked: torch.Tensor) -> float:
        return float((model(attacked).argmax(1) == y).double().mean())

    on_bare = attack(bare, x, y)
    return {
        "images": len(x),
        "largest pixel of u": float(u.abs().max()),
        "clean, bare": accuracy(bare, x),
        "clean, defended": accuracy(defended, x),
        "PGD, bare": accuracy(bare, on_bare),
        "PGD unaware of the defence, defended": accuracy(defended, on_bare),
        "PGD minus u, defended": accuracy(defended, on_bare - u),
        "PGD minus u within the budget, defended": accuracy(
            defended, BUDGET.project(on_bare - u, x)
        ),
        "PGD on the defence, defended": accuracy(defended, attack(defended, x, y)),
    }


if __name__ == "__main__":
    print(json.dumps(measured(Path(sys.argv[1])), indent=1))
