"""Random inputs through every door: the right answer or one clear line, within 10 seconds.

The search runs in a process of its own, where nothing checks annotations, as for a user, and where
memory is bounded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fuzz.doors import DOORS

SECONDS = float(os.environ.get("SPEARSHIELD_FUZZ_SECONDS", "3600"))
"""Duration of the long search."""

INPUTS = 20
"""Inputs of a door of weight 1 in the short search."""

TESTS = Path(__file__).parents[1]


def searched(folder: Path, *words: str) -> dict[str, Any]:
    """The summary of a search, by door; an input that ends the process is an error."""
    path = folder / "fuzz.json"
    paths = [str(TESTS), str(TESTS.parent / "src"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--out", str(path), *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        stdout=sys.stdout.fileno() if words[-1] == "--print" else subprocess.PIPE,
        text=True,
        check=False,
    )
    current = path.with_suffix(".current")
    assert done.returncode in (0, 1), f"status {done.returncode} at {current.read_text()}"
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return summary


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of the short search, which tries the same inputs every time."""
    return searched(tmp_path_factory.mktemp("fuzz"), "--inputs", str(INPUTS))


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_a_door_holds(short: dict[str, Any], door: Any) -> None:
    tally = short[door.name]
    assert tally["inputs"] >= len(door.examples) + INPUTS * door.weight
    assert tally["accepted"] > 0, "no input was accepted, so little was tried"
    assert not tally["findings"]


@pytest.mark.slow
def test_all_doors_hold_for_long(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with capfd.disabled():
        summary = searched(tmp_path, "--inputs", "200", "--seconds", str(SECONDS), "--print")
    findings = {name: tally["findings"] for name, tally in summary.items() if tally["findings"]}
    assert not findings
