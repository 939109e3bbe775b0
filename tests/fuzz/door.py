"""A door of the package, and the search for inputs that it answers wrongly."""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.strategies import SearchStrategy

from fuzz.oracle import Fault, inside


@dataclass(frozen=True)
class Door:
    """One way into the package.

    Args:
        name: What a user brings.
        inputs: Strategy of the inputs.
        enter: Brings one input, in an empty working directory; raises a ``Fault`` for a wrong
            answer, and returns whether the input was accepted.
        examples: Inputs that are tried first.
        weight: Number of inputs, relative to other doors.
    """

    name: str
    inputs: SearchStrategy[Any]
    enter: Callable[[Any], bool]
    examples: tuple[Any, ...] = ()
    weight: float = 1.0


@dataclass
class Finding:
    """Inputs that are answered wrongly in one way; ``shown`` is the shortest one so far."""

    kind: str
    shown: str
    detail: str
    count: int = 1


@dataclass
class Tally:
    """The answers of one door."""

    inputs: int = 0
    """Inputs that differ from each other."""

    accepted: int = 0
    seconds: float = 0.0
    findings: dict[str, Finding] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)

    def summary(self) -> dict[str, Any]:
        """The numbers and findings, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "seen"}

    def record(self, value: Any, error: BaseException) -> None:
        """Add a wrong answer."""
        kind = error.kind if isinstance(error, Fault) else f"{type(error).__name__} in the fuzz"
        new = Finding(kind, repr(value)[:1500], str(error)[:1000])
        old = self.findings.get(kind)
        if old is None:
            self.findings[kind] = new
        else:
            old.count += 1
            if len(new.shown) < len(old.shown):
                old.shown, old.detail = new.shown, new.detail


@contextmanager
def empty_folder() -> Iterator[Path]:
    """An empty working directory inside the block."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        with inside(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def attempt(door: Door, value: Any, tally: Tally, current: Path) -> None:
    """Bring one input through a door, unless it was tried before.

    Args:
        current: A file that names the input while it is tried, in case the process ends.
    """
    shown = repr(value)
    if hash(shown) in tally.seen:
        return
    tally.seen.add(hash(shown))
    current.write_text(f"{door.name}: {shown[:2000]}", encoding="utf-8", errors="replace")
    tally.inputs += 1
    torch.manual_seed(0)
    with empty_folder():
        try:
            tally.accepted += door.enter(value)
        except Exception as error:  # noqa: BLE001 - the fuzz goes on
            tally.record(value, error)


def search(door: Door, count: int, seed: int, tally: Tally, current: Path) -> None:
    """Try the examples of a door, and ``count`` inputs that are drawn from a seed."""
    started = time.monotonic()
    if seed == 0:
        for example in door.examples:
            attempt(door, example, tally, current)

    enough = tally.inputs + count

    @seeded(seed)
    @settings(
        max_examples=3 * count,  # many occur twice
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(door.inputs)
    def drawn(value: Any) -> None:
        if tally.inputs < enough:
            attempt(door, value, tally, current)

    drawn()
    gc.collect()
    tally.seconds += time.monotonic() - started
