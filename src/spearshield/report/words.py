"""How names and numbers are said in a report, the same in HTML and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spearshield.judging.results import WORST_CASE, Row

TITLE = "Robustness report"

HOW_TO_READ = (
    "Robust accuracy is the share of all images that the defended classifier gets right before and "
    "after the attack, or rejects when attacked, and in the worst case an image counts only if it "
    "survives every attack through every view. "
    "Brackets hold 95 % intervals, all shares are in percent, and only numbers of the same data, "
    "classifier, threat model and images can be compared."
)

IGNORANT = "attacker ignorant of the defence (paper style)"

SEEDS = (
    "Over several seeds a share is the mean, with the lowest and the highest seed below it; the "
    "interval reaches from the lowest to the highest bound of any seed."
)

CURVES = (
    "At each distance, the share of images that are right before the attack and that it broke "
    "with no perturbation of that size or less. Only attacks that look for the smallest "
    "perturbation have a curve, and each is an upper bound: where the headline is lower, other "
    "attacks broke more."
)

ROUNDS = (
    "Each round trains an attack and a purifier against the pair that the former round has left. "
    "Attack success is that of the round's attack on that pair (ASR); recovery is the share of "
    "what it broke that the round's purifier makes right again (DSR). An oblivious attack on the "
    "new pair works on the former one. Clean and robust accuracy are those of the new pair, in the "
    "worst case over everything it met."
)

VIEWS = {
    "oblivious": "the attacker does not know of the purifier and works on the classifier behind "
    "it; an upper bound on robustness, the setting of most published tables",
    "transferred": "the attack was finished elsewhere, as on another classifier, before it met "
    "the victim; an upper bound on robustness",
    "adaptive": "the attacker differentiates the defended classifier as it is, with its exact "
    "gradient",
    "bpda": "the attacker purifies on the way forward and passes the gradient straight through on "
    "the way back",
    "detector_aware": "the attacker also sees by how much an image is rejected, and means to stay "
    "unnoticed",
    "in_range": "the attacker searches the images of the purifier's own generator",
    "eot": "the attacker averages the logits over n answers of a random purifier: eot(n)",
    WORST_CASE: "of every image, the worst over all attacks and views of the defence",
}

VERDICTS = {
    "trustworthy": "no check found a reason to doubt the number.",
    "not trustworthy": "the number cannot be trusted; this says nothing yet about the defence.",
    "broken": "under 5 % of the images survive; the attack works, and no trust is needed.",
}

COLUMNS = {
    "clean": "clean accuracy: share of clean images that the defended classifier gets right",
    "robust": "robust accuracy, with its 95 % interval; the bar runs from 0 to 100 and its thin "
    "mark is the clean accuracy",
    "ASR": "attack success rate: of the images that the classifier behind the purifier gets right, "
    "the share that the attack flips for it",
    "DSR": "defence success rate: of the adversarial images that fool the classifier behind the "
    "purifier, the share that the defended one gets right",
    "SSIM": "structural similarity of adversarial and clean images; 1 is identical",
    "L2, L\u221e": "mean size of the perturbations, with pixels in [0, 1]",
    "s / image": "seconds that the attack took",
    "passes / image": "images that the attack sent through the classifier",
    "n/a": "there was no image to take the share of",
}


LEFT = ("network", "sources", "queries")
"""What else is known of an attack that a training left behind."""


def percent(share: float | None) -> str:
    """A share in percent, without the sign."""
    return "n/a" if share is None else f"{100 * share:.1f}"


def interval(bounds: tuple[float, float]) -> str:
    return f"[{percent(bounds[0])}, {percent(bounds[1])}]"


def size(value: float) -> str:
    """A quantity that is no share, to three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def number(value: float | int | None) -> str:
    """Any number that a check saw."""
    return "n/a" if value is None else f"{value:.3g}"


def threat(name: str, eps: float) -> str:
    """A threat model; budgets that are whole steps of 8-bit pixels are said in those."""
    levels = eps * 255
    whole = abs(levels - round(levels)) < 1e-6 and len(f"{eps:g}") > 5
    return f"{norm(name)} {round(levels)}/255" if whole else f"{norm(name)} {eps:g}"


def norm(name: str) -> str:
    """The norm of a threat model."""
    return {"Linf": "L\u221e", "L2": "L2"}[name]


def hyper(row: Row) -> dict[str, Any]:
    """The hyper-parameters of a row's attack, as far as they are known.

    What a training left behind is known by that training, whatever the seed.
    """
    about = row.parameters.get("attack")
    if not isinstance(about, dict):
        return {}
    left = LEFT if "training" in about else ()
    return {name: value for name, value in about.items() if name not in ("type", "threat", *left)}


def attack(name: str, about: Mapping[str, Any]) -> str:
    """An attack as a title, as ``PGD-40 x5``: short words are abbreviations.

    What a training left behind is called as that training.

    Args:
        name: Its file's name.
        about: Its hyper-parameters.
    """
    if name == WORST_CASE:
        return view(name)
    if "training" in about:
        return name
    parts = [part.upper() if len(part) <= 4 else part.capitalize() for part in name.split("_")]
    steps = f"-{about['steps']}" if "steps" in about else ""
    restarts = f" x{about['restarts']}" if about.get("restarts", 1) != 1 else ""
    return "-".join(parts) + steps + restarts


def view(name: str) -> str:
    return name.replace("_", " ")


def images(row: Row) -> str:
    """How many images, and of which split."""
    return f"{row.images:,} {row.split} image{'' if row.images == 1 else 's'}"


def apart(name: str, difference: str) -> str:
    """A name, and what tells it from its namesakes, if it has any."""
    return f"{name} ({difference})" if difference else name


def subject(rows: Sequence[Row]) -> str:
    """What a report is about, in one line: its recipes and how much there is."""
    recipes = ", ".join(dict.fromkeys(row.recipe for row in rows))
    methods = len({row.method for row in rows})
    seeds = len({row.seed for row in rows})
    counts = ((methods, "method"), (seeds, "seed"), (len(rows), "row"))
    said = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    return f"{recipes} ({said})"
