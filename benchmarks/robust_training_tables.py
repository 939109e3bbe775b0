"""The tables of docs/results/gan_adversarial_training_mnist and ..._cifar10_jpeg, as Markdown.

    python benchmarks/robust_training_tables.py FOLDER

FOLDER holds ``results.json``, the rows of all runs of the recipe, one run for each seed;
``battery.json``, the rows of audits of their trainings; and ``cost.json``, which
``training_cost.py`` or ``step_seconds.py`` wrote. ``ablation.json`` and ``ablation_cost.json``, if
they exist, are those of the recipe ``gan_adversarial_training_mnist_ablation``. Shares are in
percent; several seeds are the mean, with the lowest and the highest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from inspect import cleandoc
from pathlib import Path
from typing import Any

from markdown_tables import number, spread, table

from spearshield.judging import results
from spearshield.judging.results import WORST_CASE, Row


class Measured:
    """The rows and the cost of trainings, by name."""

    def __init__(self, folder: Path, rows: str = "results.json", cost: str = "cost.json") -> None:
        self.rows = results.read(folder / rows)
        battery = folder / "battery.json"
        self.battery = results.read(battery) if battery.exists() else []
        self.cost: dict[str, dict[str, Any]] = json.loads((folder / cost).read_text())
        self.methods = list(dict.fromkeys(row.method for row in self.rows))

    def of(self, method: str, attack: str, steps: int = 0, restarts: int = 1) -> list[Row]:
        """The rows of an attack on a method, one for each seed."""
        return [
            row
            for row in self.rows
            if row.method == method and is_attack(row, attack, steps, restarts)
        ]

    def worst(self, method: str) -> list[Row]:
        """The worst cases under the battery."""
        return [row for row in self.battery if row.method == method and row.attack == WORST_CASE]

    def costs(self, method: str, of: str) -> list[float]:
        """A cost of the training of a method, for each seed."""
        found = [one[method].get(of) for one in self.cost.values() if method in one]
        return [number for number in found if number is not None]


def is_attack(row: Row, attack: str, steps: int, restarts: int) -> bool:
    """True if the row is of this attack, with these steps and restarts."""
    about = row.parameters.get("attack") or {}
    return row.attack == attack and (
        not steps or (about.get("steps"), about.get("restarts")) == (steps, restarts)
    )


def trainings(measured: Measured) -> list[str]:
    """Accuracy, proofs and cost of each training.

    Clean, FGSM and PGD-10: all test images. PGD-100 with 5 starts, and the standard battery: the
    first 1,000; the battery on CIFAR-10: the first 200. Certified: share of these with a proof.
    Minutes of processor time. Gradients: forward passes of classifiers with a backward pass, per
    image and epoch; passes of static models count, passes of generators do not. A pass with
    interval bounds takes about three times as long and counts once. Gap: highest difference
    between the accuracy under the training's own adversary and under PGD; above 40 is the alarm for
    catastrophic overfitting.
    """
    head = [
        "training",
        "clean",
        "FGSM",
        "PGD-10",
        "PGD-100",
        "standard battery",
        "certified",
        "verdict",
    ]
    lines = [[*head, "minutes", "gradients", "gap"]]
    for method in measured.methods:
        if method.startswith("source"):
            continue
        fgsm, worst = measured.of(method, "fgsm"), measured.worst(method)
        lines.append(
            [
                f"`{method}`",
                spread([row.acc for row in fgsm]),
                spread([row.robust_acc for row in fgsm]),
                spread([row.robust_acc for row in measured.of(method, "pgd", 10)]),
                spread([row.robust_acc for row in measured.of(method, "pgd", 100, 5)]),
                spread([row.robust_acc for row in worst]),
                spread([row.proved for row in worst]),
                ", ".join(dict.fromkeys(str(row.verdict) for row in worst)),
                number(measured.costs(method, "minutes")),
                number(measured.costs(method, "passes")),
                spread(measured.costs(method, "gap")),
            ]
        )
    return table(lines)


def transfer(measured: Measured) -> list[str]:
    """Black box: accuracy under images that were made on independently trained models.

    The first 1,000 test images; FGSM / PGD-10 on the source.
    """
    sources = [method for method in measured.methods if method.startswith("source")]
    lines = [["training", *(f"from `{source}`" for source in sources)]]
    for method in measured.methods:
        cells = []
        for source in sources:
            pair = (measured.of(method, f"{kind}_from_{source}") for kind in ("fgsm", "pgd"))
            cells.append(" / ".join(spread([row.robust_acc for row in rows]) for rows in pair))
        lines.append([f"`{method}`", *cells])
    return table(lines) if sources else []


def ablation(measured: Measured) -> list[str]:
    """The parts of learned adversaries, one by one: one seed, 1,000 validation images.

    PGD-40 attacks all images. APGD on the cross-entropy and on the DLR attacks the survivors.
    """
    lines = [["training", "clean", "PGD-40", "PGD-40 and APGD", "minutes", "gradients", "gap"]]
    for method in measured.methods:
        worst = measured.of(method, WORST_CASE)
        lines.append(
            [
                f"`{method}`",
                spread([row.acc for row in worst]),
                spread([row.robust_acc for row in measured.of(method, "pgd")]),
                spread([row.robust_acc for row in worst]),
                number(measured.costs(method, "minutes")),
                number(measured.costs(method, "passes")),
                spread(measured.costs(method, "gap")),
            ]
        )
    return table(lines)


def show(make: Callable[[Measured], list[str]], measured: Measured) -> None:
    """Print a table and what it contains; nothing, if it has no lines."""
    if lines := make(measured):
        print(f"\n{cleandoc(make.__doc__ or '')}\n")
        print("\n".join(lines))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    show(trainings, Measured(folder))
    show(transfer, Measured(folder))
    if (folder / "ablation.json").exists():
        show(ablation, Measured(folder, "ablation.json", "ablation_cost.json"))
