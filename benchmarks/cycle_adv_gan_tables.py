"""The tables of docs/results/cycle_adv_gan_mnist and of its sibling on CIFAR-10, as Markdown.

    python benchmarks/cycle_adv_gan_tables.py RUN ...

Each RUN is one seed's, of the recipe ``cycle_adv_gan_mnist`` or ``cycle_adv_gan_cifar10_jpeg``.
Shares are in percent: the mean over the seeds, and below it the lowest and the highest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from inspect import cleandoc
from pathlib import Path

from spearshield import results
from spearshield.results import WORST_CASE, Row

LEARNT_FROM = {
    "cycle_fgsm": "fgsm",
    "cycle_pgd": "pgd",
    "cycle_deepfool": "deepfool",
    "cycle_cw": "carlini_wagner",
}
NAMES = {
    "fgsm": "FGSM",
    "pgd": "PGD-40",
    "deepfool": "DeepFool",
    "carlini_wagner": "Carlini-Wagner, L2",
}
BARE = "standard_training"


class Found:
    """Rows, by what was attacked, by what, and through which view."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.cells: dict[tuple[str, str, str, str], list[Row]] = {}
        for row in rows:
            view = "oblivious" if row.method == BARE and row.view == "adaptive" else row.view
            self.cells.setdefault((row.method, row.attack, view, row.threat), []).append(row)
        self.methods = list(dict.fromkeys(method for method, *_ in self.cells))
        self.attacks = list(dict.fromkeys(attack for _, attack, *_ in self.cells))

    def of(self, method: str, attack: str, view: str = "oblivious") -> list[Row]:
        """One row of each seed, in the norm of the attack's own budget."""
        threat = "L2" if attack == "carlini_wagner" else "Linf"
        rows = self.cells.get((method, attack, view, threat), [])
        fastest = {row.seed: row for row in sorted(rows, key=lambda row: -row.seconds_per_image)}
        return [fastest[seed] for seed in sorted(fastest)]


def attacks(found: Found) -> list[str]:
    """Success on the bare classifier: of the images that it gets right, those that are flipped."""
    pgd = found.of(BARE, "pgd")
    lines = [
        ["attack", "success", "that of the attack learnt from", "images a second, times PGD-40's"]
    ]
    for name in found.attacks:
        made = found.of(BARE, name)
        if not made or name == WORST_CASE:
            continue
        times = ""
        if made[0].parameters["attack"].get("training"):
            pairs = zip(made, pgd, strict=True)
            speeds = [slow.seconds_per_image / fast.seconds_per_image for fast, slow in pairs]
            times = f"{min(speeds):,.0f}"
        source = LEARNT_FROM.get(name, "")
        lines.append([said(name), share(made, "asr"), share(found.of(BARE, source), "asr"), times])
    return table(lines)


def recovery(found: Found) -> list[str]:
    """Accuracy behind each purifier: clean, attacked by who ignores it, and by who knows it.

    A star marks the attack that was learnt from; "others" is the worst of the other generators.
    """
    purifiers = [name for name in found.methods if name != BARE]
    lines = [
        ["purifier", "clean", *NAMES.values(), "own", "others", "PGD through it", "next round"]
    ]
    for name in purifiers:
        source = LEARNT_FROM.get(name, "")
        cells = [
            share(found.of(name, attack), "robust_acc") + ("\\*" if attack == source else "")
            for attack in NAMES
        ]
        learned = [
            found.of(name, attack)
            for attack in found.attacks
            if attack not in (name, *NAMES) and found.of(name, attack)
        ]
        others = min(learned, key=lambda rows: mean(rows, "robust_acc"), default=[])
        following = [
            rows
            for attack in found.attacks
            if attack not in NAMES and (rows := found.of(name, attack, "adaptive"))
        ]
        lines.append(
            [
                said(name),
                share(found.of(name, "fgsm"), "acc"),
                *cells,
                share(found.of(name, name), "robust_acc"),
                share(others, "robust_acc") + (f" ({said(others[0].attack)})" if others else ""),
                share(found.of(name, "pgd", "adaptive"), "robust_acc"),
                share(following[0], "robust_acc") if following else "",
            ]
        )
    return table(lines)


def black_boxes(found: Found) -> list[str]:
    """Attacks that saw the classifier's answers alone, and the images they asked about."""
    lines = [["attack", "success", "questions"]]
    for name in found.attacks:
        made = found.of(BARE, name)
        asked = made[0].parameters["attack"].get("queries") if made else None
        if asked:
            lines.append([said(name), share(made, "asr"), f"{asked:,}"])
    return table(lines)


def said(name: str) -> str:
    return NAMES.get(name, f"`{name}`")


def share(rows: list[Row], of: str) -> str:
    """Over the seeds."""
    known = [getattr(row, of) for row in rows]
    if not known:
        return ""
    spread = f" ({100 * min(known):.1f} to {100 * max(known):.1f})" if len(known) > 1 else ""
    return f"{100 * mean(rows, of):.1f}{spread}"


def mean(rows: list[Row], of: str) -> float:
    return sum(getattr(row, of) for row in rows) / len(rows)


def table(lines: list[list[str]]) -> list[str]:
    first, *rest = lines
    rule = ["---", *["---:"] * (len(first) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (first, rule, *rest)]


if __name__ == "__main__":
    found = Found(row for run in sys.argv[1:] for row in results.read(Path(run) / "results.json"))
    for make in (attacks, recovery, black_boxes):
        print(f"\n{cleandoc(make.__doc__ or '')}\n")
        print("\n".join(make(found)))
