"""The losses of the trainings of a run, from the ``losses.jsonl`` of each."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spearshield.training.loss_log import LOSSES

POINTS = 100
"""The largest number of points of a drawn curve."""


@dataclass(frozen=True)
class Losses:
    """One loss of one training.

    Args:
        training: The name of the training's folder.
        name: The name of the loss.
        values: One value for each logged step, in order.
    """

    training: str
    name: str
    values: tuple[float, ...]

    @property
    def curve(self) -> tuple[float, ...]:
        """At most ``POINTS`` means of equally many successive values."""
        size = -(-len(self.values) // POINTS)
        parts = (self.values[i : i + size] for i in range(0, len(self.values), size))
        return tuple(sum(value / len(part) for value in part) for part in parts)


def read(folder: Path) -> list[Losses]:
    """The losses of every training in a run folder, by name of the training.

    Raises:
        ValueError: A log is damaged; names the file and the line.
    """
    return [
        Losses(path.parent.name, name, tuple(values))
        for path in sorted(folder.glob(f"*/{LOSSES}"))
        if path.is_file()
        for name, values in _read(path).items()
    ]


def _read(path: Path) -> dict[str, list[float]]:
    """The values of each loss; a last line without an end, of a run that was killed, is ignored."""
    found: dict[str, list[float]] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            for name, value in _step(line).items():
                found.setdefault(name, []).append(value)
        except (ValueError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}, is damaged ({error}); delete the file to do without"
            ) from error
    return found


def _step(line: bytes) -> dict[str, float]:
    step = json.loads(line, parse_constant=_refuse)
    if not isinstance(step, dict):
        raise ValueError("not a JSON object")
    for name, value in step.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}, not a number")
    return {name: float(value) for name, value in step.items() if name != "step"}


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")


def ordered(found: Sequence[Losses], methods: Sequence[str]) -> tuple[Losses, ...]:
    """The losses in the order of the methods of the rows; other trainings come first."""
    return tuple(
        sorted(
            found,
            key=lambda loss: methods.index(loss.training) + 1 if loss.training in methods else 0,
        )
    )
