"""Write the tables of checks and of the self-test into docs/evaluation.md."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from spearshield.judging.checks import (
    CHECKS,
    detection,
    gradients,
    outputs,
    strength,
    weaker_attackers,
)
from spearshield.judging.checks.attacks import STEPS
from spearshield.judging.checks.probe import PASSES
from spearshield.judging.selftest import Judged, selftest

PAGE = Path(__file__).with_name("evaluation.md")

Limits = tuple[str, float | str, float | str]
"""What a check measures, and the thresholds above which severity is low and high."""

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
        f"images whose first step changes the logits {outputs.ISOLATED:g} times more than the "
        "second",
        "",
        0,
    ),
    "inner_optimisation": ("tensors used by gradients in a forward pass", 0, ""),
    "broken_graph": ("images with a gradient", "", "if 0"),
    "zero_gradient": ("images without a gradient", *gradients.ZERO_SHARE),
    "saturated_gradient": ("images without a gradient", *gradients.ZERO_SHARE),
    "false_gradient": (
        f"images with a relative error above {gradients.FALSE:g}",
        "",
        gradients.FALSE_SHARE,
    ),
    "more_steps": (
        "images newly broken",
        f"{strength.CONVERGED:g}, or one standard error",
        strength.STUCK,
    ),
    "not_converged": (
        f"share of the rise in the last {strength.LAST_STEPS} of {STEPS} steps",
        *strength.LATE_RISE,
    ),
    "more_restarts": (
        "images newly broken",
        f"{strength.CONVERGED:g}, or one standard error",
        strength.STUCK,
    ),
    "single_step_wins": ("difference of the robust accuracies", "", strength.LUCK),
    "loss_gap": ("difference of the robust accuracies", *strength.LOSS_GAP),
    "flat_accuracy": (
        "fall of the accuracy from eps / 3 to 3 eps; rise of the margin loss relative to noise",
        "",
        f"if below {strength.FLAT:g} and {strength.BETTER_THAN_NOISE:g}",
    ),
    "unbounded_budget": ("robust accuracy", "", strength.UNBOUNDED),
    "planted_example": ("planted examples missed", *strength.MISSED),
    "low_precision": (
        "predictions that float32 changes",
        "if float32 fails",
        outputs.CHANGED,
    ),
    "black_box_wins": ("images newly broken, at least 2", *weaker_attackers.NEWLY_BROKEN),
    "transfer_wins": ("images newly broken, at least 2", *weaker_attackers.NEWLY_BROKEN),
    "noise_wins": ("images newly broken, at least 2", *weaker_attackers.NEWLY_BROKEN),
    "blind_detector": ("images without a gradient", *detection.NO_GRADIENT),
    "not_finite": ("logits and gradients", "", 0),
}


def checks() -> str:
    """The table of the checks: when each has a finding, and its thresholds."""
    lines = [
        "| check | a finding if | measured | low above | high above |",
        "|---|---|---|---:|---:|",
    ]
    for check in CHECKS:
        about = (inspect.getdoc(check) or "").partition("\n\n")[0]
        reason = " ".join(about.split()).removeprefix("A finding if ").removesuffix(".")
        measured, *limits = LIMITS[check.__name__]
        low, high = (limit if isinstance(limit, str) else f"{limit:g}" for limit in limits)
        lines.append(f"| `{check.__name__}` | {reason} | {measured} | {low} | {high} |")
    return "\n".join(lines)


def table(rows: list[Judged]) -> str:
    """The table of the self-test: the findings for each defence, the expected ones in bold."""
    lines = [
        "| defence | fault | robust under PGD-40 | findings of high severity | verdict |",
        "|---|---|---:|---|---|",
    ]
    for row in rows:
        found = [f"**{name}**" if name in row.expected else name for name in row.found]
        cells = [row.defence, row.fault or "none", f"{100 * row.robust_acc:.0f} %"]
        lines.append("| " + " | ".join([*cells, ", ".join(found) or "none", row.verdict]) + " |")
    return "\n".join(lines)


def placed(page: str, name: str, text: str) -> str:
    """The page with ``text`` between its two marks."""
    mark = f"<!-- {name} -->"
    return re.sub(f"{mark}.*?{mark}", f"{mark}\n{text}\n{mark}", page, flags=re.DOTALL)


if __name__ == "__main__":
    page = placed(PAGE.read_text(encoding="utf-8"), "checks", checks())
    page = placed(page, "selftest", table(selftest()))
    PAGE.write_text(page, encoding="utf-8")
