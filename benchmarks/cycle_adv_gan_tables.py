"""The tables of docs/results/cycle_adv_gan_mnist and cycle_adv_gan_cifar10_jpeg, as Markdown.

    python benchmarks/cycle_adv_gan_tables.py RUN ...

Each RUN is one seed of the recipe ``cycle_adv_gan_mnist`` or ``cycle_adv_gan_cifar10_jpeg``. The
success of a generator on the images of the attack that it was trained on comes from the outcomes in
the run folder; everything else comes from ``results.json``. Shares are in percent, as the mean over
seeds with minimum and maximum; speeds are medians.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from inspect import cleandoc
from pathlib import Path
from statistics import median
from typing import Any

from markdown_tables import spread, table

from spearshield.judging import results
from spearshield.judging.results import WORST_CASE, Row
from spearshield.judging.score import TENSORS, Score
from spearshield.storage import checkpoint

NAMES = {
    "fgsm": "FGSM",
    "pgd": "PGD-40",
    "deepfool": "DeepFool",
    "carlini_wagner": "Carlini-Wagner, L2",
}


class Found:
    """Rows by method, attack, whether the attack is adaptive, and threat model."""

    def __init__(self, runs: Iterable[Path]) -> None:
        rows = list[Row]()
        self.folders: dict[int, Path] = {}
        for run in runs:
            rows += results.read(run / "results.json")
            self.folders[rows[-1].seed] = run
        self.bare = rows[0].method
        self.cells: dict[tuple[str, str, bool, str], list[Row]] = {}
        for row in rows:
            about = row.parameters.get("attack") or {}
            # On the bare classifier, the oblivious attack is the one without early stopping.
            bare = row.method == self.bare
            adaptive = bool(about.get("early_stop")) if bare else row.view != "oblivious"
            self.cells.setdefault((row.method, row.attack, adaptive, row.threat), []).append(row)
        self.methods = list(dict.fromkeys(method for method, *_ in self.cells))
        self.attacks = list(dict.fromkeys(attack for _, attack, *_ in self.cells))

    def of(self, method: str, attack: str, adaptive: bool = False) -> list[Row]:
        """One row per seed, in the norm of the attack's own budget."""
        threat = "L2" if attack == "carlini_wagner" else "Linf"
        rows = {row.seed: row for row in self.cells.get((method, attack, adaptive, threat), [])}
        return [rows[seed] for seed in sorted(rows)]

    def successes(self, attack: str, images: list[int]) -> list[float | None]:
        """Success of a generator on the bare classifier, per seed, on the first images."""
        found = []
        for row, count in zip(self.of(self.bare, attack), images, strict=True):
            outcomes = self.folders[row.seed] / "outcomes"
            (path,) = outcomes.glob(f"{self.bare}.{attack}.*.safetensors")
            saved = checkpoint.load(path)
            score = Score(**{name: saved[name] for name in TENSORS}, seconds=0.0, forwards=0)
            found.append(score.first(count).asr)
        return found


def trained_on_attack(training: dict[str, Any] | None) -> str:
    """The name of the attack that a training was trained on; empty for other methods."""
    attack = (training or {}).get("learn_from") or {}
    return str(attack.get("type", "")).rpartition(":")[0].rpartition(".")[2]


def attacks(found: Found) -> list[str]:
    """Success on the bare classifier: share of correctly classified images that are misclassified.

    An attack of a later round was trained on the defended classifier of the round before, and is
    here transferred to the bare classifier.
    """
    pgd = {row.seed: row for row in found.of(found.bare, "pgd")}
    lines = [
        [
            "attack",
            "success",
            "success of the attack trained on",
            "success on the same images",
            "images per second, relative to PGD-40",
        ]
    ]
    for name in found.attacks:
        made = found.of(found.bare, name)
        if not made or name == WORST_CASE:
            continue
        speed = other = own = ""
        if training := made[0].parameters["attack"].get("training"):
            speeds = [pgd[row.seed].seconds_per_image / row.seconds_per_image for row in made]
            speed = f"{median(speeds):,.0f}"
            source = trained_on_attack(training)
            seeds = [row.seed for row in made]
            if theirs := [row for row in found.of(found.bare, source) if row.seed in seeds]:
                other = f"{share(theirs, 'asr')} ({title(source)})"
                own = spread(found.successes(name, [row.images for row in theirs]))
        lines.append([title(name), share(made, "asr"), other, own, speed])
    return table(lines)


def recovery(found: Found) -> list[str]:
    """Accuracy behind each purifier: clean, under oblivious attacks, and under adaptive attacks.

    A star marks the attack that the purifier was trained on; "others" is the worst of the other
    generators, per seed.
    """
    lines = [["purifier", "clean", *NAMES.values(), "own", "others", "adaptive PGD", "next round"]]
    for name in found.methods:
        if name == found.bare:
            continue
        source = trained_on_attack(found.of(name, "fgsm")[0].parameters["training"])
        cells = [
            share(rows, "robust_acc") + ("\\*" if attack == source else "")
            for attack in NAMES
            for rows in [found.of(name, attack)]
        ]
        learned = [
            row
            for attack in found.attacks
            if attack not in (name, *NAMES)
            for row in found.of(name, attack)
        ]
        worst: dict[int, Row] = {}
        for row in sorted(learned, key=lambda row: row.robust_acc, reverse=True):
            worst[row.seed] = row
        others = [worst[seed] for seed in sorted(worst)]
        by = ", ".join(title(attack) for attack in dict.fromkeys(row.attack for row in others))
        following = [
            rows
            for attack in found.attacks
            if attack not in (WORST_CASE, *NAMES)
            and (rows := found.of(name, attack, adaptive=True))
        ]
        lines.append(
            [
                title(name),
                share(found.of(name, "fgsm"), "acc"),
                *cells,
                share(found.of(name, name), "robust_acc"),
                share(others, "robust_acc") + (f" ({by})" if by else ""),
                share(found.of(name, "pgd", adaptive=True), "robust_acc"),
                share(following[0], "robust_acc") if following else "",
            ]
        )
    return table(lines)


def black_boxes(found: Found) -> list[str]:
    """Attacks trained on a black box, and their queries."""
    lines = [["attack", "success", "queries"]]
    for name in found.attacks:
        made = [] if name == WORST_CASE else found.of(found.bare, name)
        queries = made[0].parameters["attack"].get("queries") if made else None
        if queries:
            lines.append([title(name), share(made, "asr"), f"{queries:,}"])
    return table(lines)


def title(name: str) -> str:
    return NAMES.get(name, f"`{name}`")


def share(rows: list[Row], of: str) -> str:
    return spread([getattr(row, of) for row in rows])


if __name__ == "__main__":
    found = Found(Path(run) for run in sys.argv[1:])
    for make in (attacks, recovery, black_boxes):
        print(f"\n{cleandoc(make.__doc__ or '')}\n")
        print("\n".join(make(found)))
