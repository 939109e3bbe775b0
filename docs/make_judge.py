"""Write the tables of checks and of the self-test into docs/evaluation.md."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from spearshield.judging.checks import (
    INSPECTIONS,
    STRENGTH,
    comparison,
    detection,
    effort,
    gradients,
    outputs,
    strength,
    weaker_attackers,
)
from spearshield.judging.checks.attacks import STEPS
from spearshield.judging.checks.probe import MORE, PASSES
from spearshield.selftest import Judged, selftest

PAGE = Path(__file__).with_name("evaluation.md")

Limits = tuple[str, float | str, float | str]
"""What a check measures, and the thresholds above which severity is low and high."""

NEW = ("images newly broken, at least 2", *weaker_attackers.NEWLY_BROKEN)
EFFORT = ("images newly broken", f"{strength.CONVERGED:g}, or one standard error", strength.STUCK)

LIMITS: dict[str, Limits] = {
    "training_mode": ("layers in training mode", "", 0),
    "random_answers": (
        f"distance between the normalised logits of {PASSES} passes",
        "",
        outputs.RANDOM,
    ),
    "batch_dependence": (
        f"images whose logits change by more than {outputs.ROUNDING:g} of the largest logit",
        "",
        0,
    ),
    "probabilities": (
        f"rows within [0, 1] that sum to 1, up to {outputs.PROBABILITY:g}",
        "",
        "if all",
    ),
    "purifier_range": (f"images that leave [0, 1] by more than {outputs.RANGE:g}", "", 0),
    "abrupt_answers": (
        f"images whose probabilities change by more than {outputs.JUMP:g} (total variation)",
        "",
        outputs.JUMPS,
    ),
    "memorised_images": (
        f"images whose logits are {outputs.ISOLATED:g} times farther from those of "
        f"{outputs.NEIGHBOURS} neighbours than these are from each other",
        "",
        f"if above twice the control and {outputs.ODDITIES}",
    ),
    "low_precision": (
        "predictions that float32 changes",
        "if float32 fails",
        outputs.CHANGED,
    ),
    "inner_optimisation": ("tensors used by gradients in a forward pass", 0, ""),
    "broken_graph": ("images with a gradient", "", "if 0"),
    "zero_gradient": ("images without a gradient", *gradients.ZERO_SHARE),
    "saturated_gradient": ("images without a gradient", 0, ""),
    "false_gradient": (
        f"images with a relative error above {gradients.FALSE:g}",
        "",
        gradients.FALSE_SHARE,
    ),
    "blind_detector": (
        f"images whose score falls by less than {detection.LOWERED:g} of its rise under attack",
        *detection.NOT_LOWERED,
    ),
    "not_finite": ("logits and gradients", "", 0),
    "more_steps": (f"{MORE} times {STEPS} steps: {EFFORT[0]}", *EFFORT[1:]),
    "not_converged": (
        f"share of the rise in the last {strength.LAST_STEPS} of {strength.LONG} steps",
        *strength.LATE_RISE,
    ),
    "more_restarts": EFFORT,
    "single_step_wins": ("difference of the robust accuracies", "", strength.LUCK),
    "noise_gradient": (
        "rise of the margin loss, relative to random steps",
        "",
        f"if below {strength.BETTER_THAN_RANDOM:g}",
    ),
    "flat_accuracy": (
        "fall of the accuracy from eps / 3 to 3 eps; rise of the margin loss relative to noise",
        "",
        f"if below {strength.FLAT:g} and {strength.BETTER_THAN_NOISE:g}",
    ),
    "unbounded_budget": ("robust accuracy", "", strength.UNBOUNDED),
    "planted_example": ("planted examples missed", *strength.MISSED),
    "black_box_wins": NEW,
    "transfer_wins": NEW,
    "noise_wins": NEW,
}

COMPARISONS: dict[str, tuple[str, Limits]] = {
    "could_not_run": ("an attack or a check ended with an error", ("errors", "", 0)),
    "no_white_box": (
        "no attack used the gradient of the whole victim",
        ("white-box attacks", "", "if 0"),
    ),
    "feeble_attack": (
        f"no white-box attack made an effort: each took fewer than {effort.FEW_PASSES} forward "
        f"passes, used less than {effort.FAR_INSIDE:g} of the budget, had steps that add up to "
        f"less than the budget, or raised the loss of less than {effort.STILL:g} of the survivors",
        ("runs of the only attack", "if 1", "if none made an effort"),
    ),
    "white_box_gap": (
        "minimum-norm attacks break images that attacks inside the budget do not break",
        ("images newly broken", *comparison.GAP),
    ),
    "still_breaking": (
        "the last attack on survivors still breaks images",
        ("images newly broken", comparison.STILL_BREAKING, ""),
    ),
    "black_box_wins": ("attacks without gradients break images that white-box attacks do not", NEW),
    "transfer_wins": ("attacks on other models break images that white-box attacks do not", NEW),
    "single_step_wins": (
        "of attacks through the same view, one step breaks more images than many",
        ("difference of the robust accuracies", "", strength.LUCK),
    ),
    "loss_gap": (
        "of attacks through the same view, a margin loss breaks more images than the cross-entropy",
        ("difference of the robust accuracies", strength.LOSS_GAP, ""),
    ),
    "detector_ignored": (
        "images were rejected and no attack used the `detector_aware` view",
        ("attacks through this view", "", "if 0"),
    ),
    "false_alarms": (
        "many clean images were rejected",
        ("clean images rejected", f"note above {detection.FALSE_ALARMS:g}", ""),
    ),
    "not_finite": (
        "the logits of a clean or attacked image, or a gradient of an attack, were NaN or infinite",
        ("images", "", 0),
    ),
    "broken_graph": ("no gradient reached the image during an attack", ("gradients", "", "if 0")),
    "escalated": (
        "the attacks that followed a finding of high severity broke more images",
        ("change of the robust accuracy", "note if not 0", ""),
    ),
}
"""Findings from the scores and the course of the attacks: the reason, and the limits."""


def checks() -> str:
    """The table of the checks of the victim, and of strength, with their thresholds."""
    return "\n".join([*_head(), *(_check(check) for check in (*INSPECTIONS, *STRENGTH))])


def comparisons() -> str:
    """The table of the findings from the scores and the course of the attacks."""
    rows = (_row(name, reason, limits) for name, (reason, limits) in COMPARISONS.items())
    return "\n".join([*_head(), *rows])


def _head() -> list[str]:
    return [
        "| check | a finding if | measured | low above | high above |",
        "|---|---|---|---:|---:|",
    ]


def _check(check: Callable[..., object]) -> str:
    about = (inspect.getdoc(check) or "").partition("\n\n")[0]
    reason = " ".join(about.split()).removeprefix("A finding if ").removesuffix(".")
    return _row(check.__name__, reason, LIMITS[check.__name__])


def _row(name: str, reason: str, limits: Limits) -> str:
    measured, *thresholds = limits
    low, high = (each if isinstance(each, str) else f"{each:g}" for each in thresholds)
    return f"| `{name}` | {reason} | {measured} | {low} | {high} |"


def table(rows: Iterable[Judged]) -> str:
    """The table of the self-test, with the expected findings in bold."""
    lines = [
        "| case | kind | about | robust accuracy | if the fault is known | verdict "
        "| findings of high severity | result |",
        "|---|---|---|---:|---:|---|---|---|",
    ]
    for row in rows:
        case = row.specimen
        names = [f"**{name}**" if name in case.expected else name for name in row.found]
        low = [f"**{each.check}** (low)" for each in row.findings if each.severity == "low"]
        found = names or (low if case.kind == "feeble attack" else [])
        cells = [
            case.name,
            case.kind,
            case.about,
            _percent(row.robust_acc),
            _percent(case.truth),
            row.verdict,
            ", ".join(found) or row.error.partition(";")[0],
            row.outcome,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def placed(page: str, name: str, text: str) -> str:
    """The page with ``text`` between its two marks."""
    mark = f"<!-- {name} -->"
    return re.sub(f"{mark}.*?{mark}", f"{mark}\n{text}\n{mark}", page, flags=re.DOTALL)


if __name__ == "__main__":
    page = placed(PAGE.read_text(encoding="utf-8"), "checks", checks())
    page = placed(page, "comparisons", comparisons())
    page = placed(page, "selftest", table(selftest()))
    PAGE.write_text(page, encoding="utf-8")
