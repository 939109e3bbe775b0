"""The texts and number formats of a report, shared by its HTML and its Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spearshield.judging.results import WORST_CASE, Row

TITLE = "Robustness report"

HOW_TO_READ = (
    "Robust accuracy is the share of all images that the defended classifier classifies correctly "
    "both without and under attack; rejecting an attacked image counts as correct. In the worst "
    "case over attacks, an image counts only if it survives every attack through every view. "
    "All shares are in percent, brackets hold 95 % confidence intervals. Compare only numbers of "
    "the same data, classifier, threat model and images."
)

UNAWARE = "attacker unaware of the defence"

HEADLINE = (
    "Robust accuracy in the worst case over attacks, in percent, with its 95 % confidence interval"
)

SEEDS = (
    "With several seeds, a share is the mean over seeds, followed by the lowest and the highest "
    "seed. The interval reaches from the lowest to the highest bound of any seed."
)

CURVES = (
    "At each distance: the share of images that are classified correctly without attack and that "
    "the attack did not change to another class with a perturbation of that size or smaller. Only "
    "attacks that search for the smallest perturbation have a curve. Each curve is an upper bound "
    "on robust accuracy; where the headline is lower, other attacks were stronger."
)

ROUNDS = (
    "Each round trains an attack and a purifier against the classifier and purifier of the "
    "previous round. Attack success (ASR) is measured for the attack of the round on that pair; "
    "recovery (DSR) is the share of the successful attacks that the purifier of the round "
    "corrects. Clean and robust accuracy are those of the new pair, in the worst case over all "
    "attacks that it was tested with."
)

VIEWS = {
    "oblivious": "the attacker is unaware of the purifier and attacks the classifier behind it. "
    "An upper bound on robustness, and the setting of most published tables",
    "transferred": "the adversarial images were made on another classifier. An upper bound on "
    "robustness",
    "adaptive": "the adaptive attacker differentiates the defended classifier and uses its exact "
    "gradient",
    "bpda": "backward pass differentiable approximation: the attacker purifies in the forward pass "
    "and replaces the gradient of the purifier in the backward pass, by the identity or by a "
    "differentiable approximation",
    "detector_aware": "the attacker also uses the detection score and tries not to be rejected",
    "in_range": "the attacker searches among the images that the generator of the purifier makes",
    "eot": "expectation over transformation: the attacker averages the logits over n outputs of a "
    "random purifier, eot(n)",
    WORST_CASE: "for every image, the worst over all attacks and views that the defence was tested "
    "with",
}

VERDICTS = {
    "trustworthy": "no check found a reason to doubt the number.",
    "not trustworthy": "a check found a reason to doubt the number. This is a statement about the "
    "evaluation, not about the defence.",
    "broken": "less than 5 % of the images survive. The attack succeeds, so the number needs no "
    "further check.",
}

COLUMNS = {
    "robust": "robust accuracy with its 95 % confidence interval",
    "clean": "clean accuracy: the share of clean images that the defended classifier classifies "
    "correctly",
    "ASR": "attack success rate: among the images that the classifier without its purifier "
    "classifies correctly, the share that the attack changes to another class",
    "DSR": "defence success rate: among the adversarial images that fool the classifier without "
    "its purifier, the share that the defended classifier classifies correctly",
    "SSIM": "structural similarity of adversarial and clean images; 1 means identical",
    "L2, L\u221e": "mean norm of the perturbations, for pixels in [0, 1]",
    "s / image": "seconds that the attack took for one image",
    "passes / image": "forward passes through the classifier that the attack took for one image",
    "source": "the line of the provenance table that names the command",
    "n/a": "no image qualifies for this share",
}

ATTACKS = {
    "apgd": "APGD",
    "auto_attack": "AutoAttack",
    "bim": "BIM",
    "carlini_wagner": "Carlini-Wagner",
    "deepfool": "DeepFool",
    "fab": "FAB",
    "fgsm": "FGSM",
    "fmn": "FMN",
    "guided_search": "Guided search",
    "latent_search": "Latent search",
    "mi_fgsm": "MI-FGSM",
    "orthogonal_pgd": "Orthogonal PGD",
    "pgd": "PGD",
    "rand_fgsm": "RAND+FGSM",
    "spsa": "SPSA",
    "square": "Square Attack",
}

STEPPED = ("bim", "mi_fgsm", "orthogonal_pgd", "pgd")
"""Attacks whose name is followed by their number of steps, as in PGD-40."""

LEARNED = ("network", "sources", "queries")
"""Parameters of a learned attack that differ between seeds of one training."""


def percent(share: float | None) -> str:
    """A share in percent, without the sign."""
    return "n/a" if share is None else f"{100 * share:.1f}"


def interval(bounds: tuple[float, float]) -> str:
    return f"[{percent(bounds[0])}, {percent(bounds[1])}]"


def size(value: float) -> str:
    """A quantity that is not a share, to three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def number(value: float | int | None) -> str:
    """A number that a check measured."""
    return "n/a" if value is None else f"{value:.3g}"


def counted(count: int, noun: str) -> str:
    """A count with its noun, as ``2 seeds``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def threat(name: str, eps: float) -> str:
    """A threat model; budgets that are whole steps of 8-bit pixels are written as 8/255."""
    levels = eps * 255
    whole = abs(levels - round(levels)) < 1e-6 and len(f"{eps:g}") > 5
    return f"{norm(name)} {round(levels)}/255" if whole else f"{norm(name)} {eps:g}"


def norm(name: str) -> str:
    """The norm of a threat model."""
    return {"Linf": "L\u221e", "L2": "L2"}.get(name, name)


def hyper(row: Row) -> dict[str, Any]:
    """The hyper-parameters of the attack of a row, as far as they are known.

    A learned attack is identified by its training, whatever the seed.
    """
    about = row.parameters.get("attack")
    if not isinstance(about, dict):
        return {}
    left_out = ("type", "threat", *(LEARNED if "training" in about else ()))
    return {name: value for name, value in about.items() if name not in left_out}


def attack(name: str, about: Mapping[str, Any]) -> str:
    """The title of an attack, as ``APGD-CE``, or ``5 x PGD-40`` with five restarts.

    A learned attack, or an attack of the user, is called by its own name.

    Args:
        name: The name of its file, or of its training.
        about: Its hyper-parameters.
    """
    if name == WORST_CASE:
        return "worst case"
    if "training" in about or name not in ATTACKS:
        return name
    title = ATTACKS[name]
    if name == "apgd":
        title += "-T" if about.get("targets") else f"-{str(about.get('loss', 'ce')).upper()}"
    if name in STEPPED and "steps" in about:
        title += f"-{about['steps']}"
    restarts = about.get("restarts", 1)
    return title if restarts == 1 else f"{restarts} x {title}"


def view(name: str) -> str:
    return name.replace("_", " ")


def images(row: Row) -> str:
    """The number of images and their split."""
    return f"{row.images:,} {row.split} image{'' if row.images == 1 else 's'}"


def apart(name: str, difference: str) -> str:
    """A name, followed by the settings that distinguish it from others of the same name."""
    return f"{name} ({difference})" if difference else name


def subject(rows: Sequence[Row]) -> str:
    """One line on the content of a report: its recipes and its size."""
    recipes = ", ".join(dict.fromkeys(row.recipe for row in rows))
    methods = counted(len({row.method for row in rows}), "method")
    seeds = counted(len({row.seed for row in rows}), "seed")
    return f"{recipes} ({methods}, {seeds}, {counted(len(rows), 'row')})"
