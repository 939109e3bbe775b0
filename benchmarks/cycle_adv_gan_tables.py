"""The tables of docs/results/cycle_adv_gan_mnist and of its sibling on CIFAR-10, as Markdown.

    python benchmarks/cycle_adv_gan_tables.py RUN ...

Each RUN is one seed's, of the recipe ``cycle_adv_gan_mnist`` or ``cycle_adv_gan_cifar10_jpeg``.
A generator's success on the images of the attack it learnt from is of the run folder's outcomes;
all else is of its ``results.json``. Shares are in percent: the mean over the seeds, and behind it
the lowest and the highest; speed is the median.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from inspect import cleandoc
from pathlib import Path
from statistics import fmean, median
from typing import Any

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
    """Rows, by what was attacked, by what, and by whether the attacker knew the purifier."""

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
            # on the bare classifier, who ignores purifiers is who takes every step
            knows = bool(about.get("early_stop")) if row.method == self.bare else None
            knows = row.view != "oblivious" if knows is None else knows
            self.cells.setdefault((row.method, row.attack, knows, row.threat), []).append(row)
        self.methods = list(dict.fromkeys(method for method, *_ in self.cells))
        self.attacks = list(dict.fromkeys(attack for _, attack, *_ in self.cells))

    def of(self, method: str, attack: str, knows: bool = False) -> list[Row]:
        """One row of each seed, in the norm of the attack's own budget."""
        threat = "L2" if attack == "carlini_wagner" else "Linf"
        rows = {row.seed: row for row in self.cells.get((method, attack, knows, threat), [])}
        return [rows[seed] for seed in sorted(rows)]

    def successes(self, attack: str, images: list[int]) -> list[float | None]:
        """Those of a generator on the bare classifier, in each seed, among the first images."""
        found = []
        for row, count in zip(self.of(self.bare, attack), images, strict=True):
            outcomes = self.folders[row.seed] / "outcomes"
            (path,) = outcomes.glob(f"{self.bare}.{attack}.*.safetensors")
            saved = checkpoint.load(path)
            score = Score(**{name: saved[name] for name in TENSORS}, seconds=0.0, forwards=0)
            found.append(score.first(count).asr)
        return found


def learnt_from(training: dict[str, Any] | None) -> str:
    """The attack whose images a training was shown; of other methods nothing."""
    attack = (training or {}).get("learn_from") or {}
    return str(attack.get("type", "")).rpartition(":")[0].rpartition(".")[2]


def attacks(found: Found) -> list[str]:
    """Success on the bare classifier: of the images that it gets right, those that are flipped.

    An attack of a later round is for the pair before it, and here transfers to the classifier.
    """
    pgd = {row.seed: row for row in found.of(found.bare, "pgd")}
    lines = [
        [
            "attack",
            "success",
            "that of the attack learnt from",
            "its own on the same images",
            "images a second, times PGD-40's",
        ]
    ]
    for name in found.attacks:
        made = found.of(found.bare, name)
        if not made or name == WORST_CASE:
            continue
        times = before = beside = ""
        if training := made[0].parameters["attack"].get("training"):
            speeds = [pgd[row.seed].seconds_per_image / row.seconds_per_image for row in made]
            times = f"{median(speeds):,.0f}"
            source = learnt_from(training)
            seeds = [row.seed for row in made]
            if theirs := [row for row in found.of(found.bare, source) if row.seed in seeds]:
                before = f"{share(theirs, 'asr')} ({said(source)})"
                beside = spread(found.successes(name, [row.images for row in theirs]))
        lines.append([said(name), share(made, "asr"), before, beside, times])
    return table(lines)


def recovery(found: Found) -> list[str]:
    """Accuracy behind each purifier: clean, attacked by who ignores it, and by who knows it.

    A star marks the kind of attack that was learnt from; "others" is the worst of the other
    generators, in each seed.
    """
    lines = [
        ["purifier", "clean", *NAMES.values(), "own", "others", "PGD through it", "next round"]
    ]
    for name in found.methods:
        if name == found.bare:
            continue
        source = learnt_from(found.of(name, "fgsm")[0].parameters["training"])
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
        by = ", ".join(said(attack) for attack in dict.fromkeys(row.attack for row in others))
        following = [
            rows
            for attack in found.attacks
            if attack not in (WORST_CASE, *NAMES) and (rows := found.of(name, attack, knows=True))
        ]
        lines.append(
            [
                said(name),
                share(found.of(name, "fgsm"), "acc"),
                *cells,
                share(found.of(name, name), "robust_acc"),
                share(others, "robust_acc") + (f" ({by})" if by else ""),
                share(found.of(name, "pgd", knows=True), "robust_acc"),
                share(following[0], "robust_acc") if following else "",
            ]
        )
    return table(lines)


def black_boxes(found: Found) -> list[str]:
    """Attacks that saw the classifier's answers alone, and the images they asked about."""
    lines = [["attack", "success", "questions"]]
    for name in found.attacks:
        made = [] if name == WORST_CASE else found.of(found.bare, name)
        asked = made[0].parameters["attack"].get("queries") if made else None
        if asked:
            lines.append([said(name), share(made, "asr"), f"{asked:,}"])
    return table(lines)


def said(name: str) -> str:
    return NAMES.get(name, f"`{name}`")


def share(rows: list[Row], of: str) -> str:
    return spread([getattr(row, of) for row in rows])


def spread(shares: list[float | None]) -> str:
    """Over the seeds."""
    known = [share for share in shares if share is not None]
    if not known:
        return "n/a" if shares else ""
    ends = f" ({100 * min(known):.1f} to {100 * max(known):.1f})" if len(known) > 1 else ""
    return f"{100 * fmean(known):.1f}{ends}"


def table(lines: list[list[str]]) -> list[str]:
    first, *rest = lines
    rule = ["---", *["---:"] * (len(first) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (first, rule, *rest)]


if __name__ == "__main__":
    found = Found(Path(run) for run in sys.argv[1:])
    for make in (attacks, recovery, black_boxes):
        print(f"\n{cleandoc(make.__doc__ or '')}\n")
        print("\n".join(make(found)))
