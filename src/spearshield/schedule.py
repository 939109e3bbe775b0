"""Learning-rate schedules, as pure functions of the step."""

from __future__ import annotations

import math


def cosine(lr: float, step: int, decay_steps: int) -> float:
    """The learning rate at ``step`` of a half cosine from ``lr`` to zero; 0 steps: it stays."""
    if decay_steps == 0:
        return lr
    return lr * 0.5 * (1 + math.cos(math.pi * min(step / decay_steps, 1.0)))
