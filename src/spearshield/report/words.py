"""Titles of attacks and formats of numbers, for the HTML and the Markdown of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spearshield import spelling
from spearshield.judging.results import WORST_CASE, Row

UNAWARE = "attacker unaware of the defence"

ATTACKS = {
    "apgd": "APGD",
    "apgd_ce": "APGD-CE",
    "apgd_dlr": "APGD-DLR",
    "apgd_margin": "APGD-margin",
    "apgd_targeted_dlr": "APGD-T",
    "auto_attack": "AutoAttack",
    "automatic_bpda": "Automatic BPDA",
    "bim": "BIM",
    "carlini_wagner": "Carlini-Wagner",
    "deepfool": "DeepFool",
    "fab": "FAB",
    "fgsm": "FGSM",
    "fmn": "FMN",
    "guided_search": "Guided search",
    "hop_skip_jump": "HopSkipJump",
    "on_grid": "On the grid",
    "latent_search": "Latent search",
    "mi_fgsm": "MI-FGSM",
    "orthogonal_pgd": "Orthogonal PGD",
    "pgd": "PGD",
    "pgd_dlr": "PGD-DLR",
    "pgd_margin": "PGD-margin",
    "rand_fgsm": "RAND+FGSM",
    "spsa": "SPSA",
    "square": "Square Attack",
}

STEPPED = ("bim", "mi_fgsm", "orthogonal_pgd", "pgd", "pgd_dlr", "pgd_margin")
"""Attacks with their number of steps in the title, as in PGD-40."""

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
    """A number of a finding."""
    return "n/a" if value is None else f"{value:.3g}"


def counted(count: int, noun: str) -> str:
    """A count with its noun, as ``2 seeds``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def threat(name: str, eps: float) -> str:
    """A threat model, as ``L∞ 8/255``."""
    return f"{norm(name)} {spelling.budget(eps)}"


def norm(name: str) -> str:
    """The norm of a threat model."""
    return {"Linf": "L\u221e", "L2": "L2"}.get(name, name)


def hyper(row: Row) -> dict[str, Any]:
    """The hyper-parameters of the attack of a row, as far as they were stored.

    A learned attack is identified by its training, for all seeds.
    """
    about = row.parameters.get("attack")
    if not isinstance(about, dict):
        return {}
    left_out = ("type", "threat", *(LEARNED if "training" in about else ()))
    return {name: value for name, value in about.items() if name not in left_out}


LOSSES = {"cross_entropy": "CE", "ce": "CE", "dlr": "DLR"}
"""Losses in the titles of attacks."""


def attack(name: str, about: Mapping[str, Any]) -> str:
    """The title of an attack, as ``APGD-CE``, or ``5 x PGD-40`` with five restarts.

    A learned attack, or an attack of the user, keeps its own name.

    Args:
        name: The name of its file, or of its training.
        about: Its hyper-parameters.
    """
    if name == WORST_CASE:
        return "worst case"
    outer, _, inner = name.rstrip(")").partition("(")
    if inner and outer in ATTACKS:
        return f"{ATTACKS[outer]} ({ATTACKS.get(inner, inner)})"
    if "training" in about or name not in ATTACKS:
        return name
    title = ATTACKS[name]
    if name == "apgd":
        loss = str(about.get("loss", "cross_entropy"))
        title += "-T" if about.get("targets") else f"-{LOSSES.get(loss, loss)}"
    if name in STEPPED and "steps" in about:
        title += f"-{about['steps']}"
    restarts = about.get("restarts", 1)
    return title if restarts == 1 else f"{restarts} x {title}"


VIEWS = {
    "oblivious": "unaware",
    "transferred": "transferred",
    "adaptive": "adaptive",
    "bpda": "BPDA",
    "eot": "EOT",
    "detector_aware": "detector-aware",
    "in_range": "in-range",
}


def view(name: str) -> str:
    """The title of a view, as ``EOT, 20 draws`` for ``eot(20)``; a user's view keeps its name."""
    kind, _, about = name.removesuffix(")").partition("(")
    if kind not in VIEWS:
        return name.replace("_", " ")
    if kind == "eot" and about:
        draws, _, of = about.partition(", ")
        return f"{VIEWS[kind]}, {draws} draws" + (f" of {view(of)}" if of else "")
    return f"{VIEWS[kind]}, {about}" if about else VIEWS[kind]


def images(row: Row) -> str:
    """The number of images and their split."""
    return f"{row.images:,} {row.split} image{'' if row.images == 1 else 's'}"


def broke(row: Row) -> str:
    """The images that the attack broke, of those it attacked; empty if not recorded."""
    return "none left" if row.attacked == 0 else row.alone or ""


WHY = {
    "not examined": "no battery with checks, or under 100 images",
    "not trustworthy": "see the findings of high severity",
    "broken": "the attacks succeed",
    "no flaw found": "this is not a proof",
}
"""A few words on each verdict."""

NEXT = {
    "not trustworthy": "follow the findings of high severity, then audit again",
    "broken": "do not rely on it within this budget; adversarial training is a stronger baseline",
    "not examined": "audit it without naming an attack, on at least 100 images",
    "no flaw found": "audit it with effort standard, more images and other seeds",
}
"""The next step after each verdict; the gravest verdict first."""

REPEATED = {
    "worst_of": "all draws right",
    "vote": "majority right",
    "one_shot": "one draw",
    "fixed_seed": "deployed draw",
}
"""Statistics over the repeated predictions of a random victim, the headline first."""


def repeated(row: Row) -> list[str]:
    """A line for each statistic of a random victim, with its clean control.

    An attacker who may try again succeeds if one of the draws is wrong.
    """
    found = row.repeated or {}
    lines = []
    for name, title in REPEATED.items():
        if name in found:
            clean, attacked = found[name]
            again = ", for an attacker who may try again" if name == "worst_of" else ""
            lines.append(f"{title:<16}  {attacked:6.1%} attacked, {clean:6.1%} clean{again}")
    return lines


def apart(name: str, difference: str) -> str:
    """A name, followed by the settings that distinguish it from others of the same name."""
    return f"{name} ({difference})" if difference else name


def subject(rows: Sequence[Row]) -> str:
    """One line on the content of a report: its recipes and its size."""
    recipes = ", ".join(dict.fromkeys(row.recipe for row in rows))
    methods = counted(len({row.method for row in rows}), "method")
    seeds = counted(len({row.seed for row in rows}), "seed")
    return f"{recipes} ({methods}, {seeds}, {counted(len(rows), 'row')})"
