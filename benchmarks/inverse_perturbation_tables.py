"""The tables of docs/results/inverse_perturbation_mnist and ..._imagenet, as Markdown.

    python benchmarks/inverse_perturbation_tables.py FOLDER

FOLDER holds ``results.json``, the rows of all runs of the recipe, for each classifier and seed, and
``battery.json``, the rows of audits of their defences; ``ablation.json``, the rows of the recipe
``inverse_perturbation_mnist_ablation``. ``cost.json`` and ``features.json`` hold the
output of ``training_cost.py`` and ``feature_distances.py`` for each classifier. Shares are in
percent; several seeds are the mean, with the lowest and the highest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from inspect import cleandoc
from pathlib import Path
from statistics import mean
from typing import Any

from markdown_tables import spread, table

from spearshield.judging import results
from spearshield.judging.results import WORST_CASE, Row

GRADIENT = ("fgsm", "bim", "mi_fgsm", "pgd")
OPTIMISATION = ("carlini_wagner", "deepfool", "uap")
BLOCKS = {"gradient-based": GRADIENT, "optimisation-based": OPTIMISATION}

PUBLISHED = {
    ("gradient-based", "alexnet"): (72.40, 83.40, 84.54, 88.92, 97.10, 97.83),
    ("gradient-based", "m_cnn"): (70.31, 82.36, 85.68, 87.45, 98.25, 98.91),
    ("gradient-based", "lenet"): (68.26, 80.71, 85.25, 86.89, 97.79, 98.04),
    ("optimisation-based", "alexnet"): (82.43, 82.46, 83.66, 87.92, 89.34, 95.76),
    ("optimisation-based", "m_cnn"): (86.13, 85.14, 86.88, 87.54, 93.58, 94.77),
    ("optimisation-based", "lenet"): (80.34, 85.01, 84.17, 85.22, 92.69, 94.57),
}
"""Defence success rates of the paper's table, for the methods ``IN_TABLE``."""
IN_TABLE = ("defense_gan", "ape_gan", "dae", "uipd", "grip_gan", "ip_gan")


class Measured:
    """The rows of a folder."""

    def __init__(self, folder: Path) -> None:
        self.rows = [row for row in results.read(folder / "results.json") if row.attack]
        battery = folder / "battery.json"
        self.battery = results.read(battery) if battery.exists() else []
        ablation = folder / "ablation.json"
        self.ablation = results.read(ablation) if ablation.exists() else []
        self.cost = _optional(folder / "cost.json")
        self.features = _optional(folder / "features.json")
        self.classifiers = list(dict.fromkeys(row.classifier for row in self.rows))
        self.methods = list(dict.fromkeys(row.method for row in self.rows))

    def oblivious(self, classifier: str, method: str, attack: str) -> list[Row]:
        """The rows of an oblivious attack, one for each seed."""
        return [
            row
            for row in self.rows
            if (row.classifier, row.method, row.attack) == (classifier, method, attack)
            and row.view == "oblivious"
        ]

    def of_block(
        self, classifier: str, method: str, block: tuple[str, ...], of: Callable[[Row], float]
    ) -> list[float]:
        """A number, mean over the attacks of a block, for each seed that has all of them."""
        seeds: dict[int, list[float]] = {}
        for attack in block:
            for row in self.oblivious(classifier, method, attack):
                seeds.setdefault(row.seed, []).append(of(row))
        return [mean(found) for found in seeds.values() if len(found) == len(block)]

    def worst(self, classifier: str, method: str) -> list[Row]:
        """The worst cases under the standard battery."""
        return [
            row
            for row in self.battery
            if (row.classifier, row.method, row.attack) == (classifier, method, WORST_CASE)
        ]

    def minutes(self, classifier: str, method: str) -> str:
        """Processor time of a training."""
        seeds = self.cost.get(classifier, {}).values()
        found = [seed[method]["minutes"] for seed in seeds if method in seed]
        return f"{mean(found):.1f}" if found else ""


def _optional(path: Path) -> dict[str, Any]:
    """The content of a JSON file; nothing if there is no file."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def dsr(row: Row) -> float:
    """The defence success rate; 1 where the attack had no success."""
    return 1.0 if row.dsr is None else row.dsr


def published_table(measured: Measured) -> list[str]:
    """Defence success rate against oblivious attackers; published / measured.

    The mean over the attacks of a block. The attacks and budgets of the paper are not known.
    """
    lines = [["block", "classifier", *(f"`{method}`" for method in IN_TABLE)]]
    for (block, classifier), cells in PUBLISHED.items():
        if classifier not in measured.classifiers:
            continue
        line = [block, classifier]
        for method, cell in zip(IN_TABLE, cells, strict=True):
            own = measured.of_block(classifier, method, BLOCKS[block], dsr)
            line.append(f"{cell:.2f} / {spread(own)}" if own else f"{cell:.2f} / not measured")
        lines.append(line)
    return table(lines) if len(lines) > 1 else []


def attacks_table(measured: Measured) -> list[str]:
    """Defence success rate for each oblivious attack."""
    attacks = GRADIENT + OPTIMISATION
    lines = [["classifier", "defence", *attacks]]
    for classifier in measured.classifiers:
        for method in measured.methods:
            found = [measured.oblivious(classifier, method, attack) for attack in attacks]
            if any(found):
                cells = (spread([dsr(row) for row in rows]) for rows in found)
                lines.append([classifier, f"`{method}`", *cells])
    return table(lines)


def adaptive_table(measured: Measured) -> list[str]:
    """Clean and robust accuracy, similarity, and cost.

    On MNIST, FGSM and oblivious PGD attack all test images (M_CNN: 1,000, Defense-GAN: 200), and
    adaptive PGD with three starts the first 1,000 (Defense-GAN: 200). The column of images belongs
    to the standard battery. SSIM, in percent, compares the clean images with the images of
    oblivious PGD. Minutes are the processor time of the training; attacks that are precomputed are
    not included. The battery and the minutes belong to seed 0.
    """
    head = ["classifier", "defence", "clean", "PGD, oblivious", "FGSM, adaptive", "PGD, adaptive"]
    lines = [[*head, "standard battery", "images", "verdict", "SSIM", "minutes"]]
    for classifier in measured.classifiers:
        for method in measured.methods:
            adaptive = [
                row
                for row in measured.rows
                if (row.classifier, row.method, row.view) == (classifier, method, "adaptive")
            ]
            oblivious = measured.oblivious(classifier, method, "pgd")
            worst = measured.worst(classifier, method)
            if adaptive:
                fgsm = [row for row in adaptive if row.attack == "fgsm"]
                pgd = [row for row in adaptive if row.attack == "pgd" and _stops_early(row)]
                lines.append(
                    [
                        classifier,
                        f"`{method}`",
                        spread([row.acc for row in fgsm or oblivious]),
                        spread([row.robust_acc for row in oblivious]),
                        spread([row.robust_acc for row in fgsm]),
                        spread([row.robust_acc for row in pgd]),
                        spread([row.robust_acc for row in worst]),
                        ", ".join(dict.fromkeys(f"{row.images:,}" for row in worst)),
                        ", ".join(dict.fromkeys(str(row.verdict) for row in worst)),
                        spread([row.ssim for row in oblivious]),
                        measured.minutes(classifier, method),
                    ]
                )
    return table(lines)


def features_table(measured: Measured) -> list[str]:
    """Mean distance from the clean image in the penultimate features of the classifier, PGD.

    In units of the mean norm of the clean features; the first 100 test images.
    """
    views = ("oblivious", "adaptive")
    head = [f"{view}: {image}" for view in views for image in ("attacked", "purified")]
    lines = [["classifier", "defence", *head]]
    for classifier, defences in measured.features.items():
        for method in measured.methods:
            if method in defences:
                parts = [defences[method][view] for view in views]
                cells = [
                    f"{part[image]:.2f}" for part in parts for image in ("attacked", "purified")
                ]
                lines.append([classifier, f"`{method}`", *cells])
    return table(lines) if len(lines) > 1 else []


def ablation_table(measured: Measured) -> list[str]:
    """Defence success rate of the variants of ``ablation.json``, on validation images.

    The mean over the attacks of a block, and the clean accuracy.
    """
    head = ["classifier", "variant", "clean", *BLOCKS, *GRADIENT, *OPTIMISATION]
    lines = [head]
    for key in dict.fromkeys((row.classifier, row.method) for row in measured.ablation):
        own = [row for row in measured.ablation if (row.classifier, row.method) == key]
        rates = {row.attack: dsr(row) for row in own if row.view == "oblivious"}
        if not rates:
            continue
        blocks = [mean(rates[attack] for attack in block) for block in BLOCKS.values()]
        shares = [own[0].acc, *blocks, *(rates[attack] for attack in GRADIENT + OPTIMISATION)]
        classifier, method = key
        lines.append([classifier, f"`{method}`", *(f"{100 * share:.1f}" for share in shares)])
    return table(lines) if len(lines) > 1 else []


def _stops_early(row: Row) -> bool:
    """True for the PGD of adaptive attackers; PGD for oblivious ones takes all of its steps."""
    stops: bool = row.parameters["attack"]["early_stop"]
    return stops


if __name__ == "__main__":
    found = Measured(Path(sys.argv[1]))
    for make in (published_table, attacks_table, adaptive_table, features_table, ablation_table):
        lines = make(found)
        if lines:
            print(f"\n{cleandoc(make.__doc__ or '')}\n")
            print("\n".join(lines))
