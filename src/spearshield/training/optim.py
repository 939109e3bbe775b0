"""Learning-rate schedules, as pure functions of the step."""

from __future__ import annotations

import math


def cosine(lr: float, step: int, decay_steps: int, hold_steps: int = 0) -> float:
    """The learning rate at ``step``: held, then a half cosine from ``lr`` to zero.

    Args:
        decay_steps: Length of the half cosine; 0: the rate stays.
        hold_steps: Steps before it begins.
    """
    if decay_steps == 0:
        return lr
    share = min(max(step - hold_steps, 0) / decay_steps, 1.0)
    return lr * 0.5 * (1 + math.cos(math.pi * share))
