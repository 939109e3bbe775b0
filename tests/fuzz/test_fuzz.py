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

from fuzz import DOORS

SECONDS = os.environ.get("SPEARSHIELD_FUZZ_SECONDS", "3600")
"""Duration of the long search."""

INPUTS = 20
"""Inputs of a door of weight 1 in the short search."""

TESTS = Path(__file__).parents[1]


def searched(out: Path, *words: str, show: bool = False) -> dict[str, Any]:
    """The summary of a search, by door. An input that ends the process fails the test."""
    paths = [str(TESTS.parent / "src"), str(TESTS), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--out", str(out), *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        cwd=out.parent,
        stdout=None if show else subprocess.PIPE,
        check=False,
    )
    current = out.with_suffix(".current")
    assert done.returncode in (0, 1), f"status {done.returncode}, after {current.read_text()}"
    summary: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return summary


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of the short search, which tries the same inputs every time."""
    return searched(tmp_path_factory.mktemp("fuzz") / "fuzz.json", "--inputs", str(INPUTS))


@pytest.mark.parametrize("door", DOORS)
def test_a_door_holds(short: dict[str, Any], door: str) -> None:
    tally = short[door]
    assert tally["inputs"] >= INPUTS / 2
    assert tally["accepted"] > 0, "no input was accepted, so little was tried"
    assert not tally["findings"]


@pytest.mark.slow
def test_all_doors_hold_for_long(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with capfd.disabled():
        words = ("--inputs", "100", "--seconds", SECONDS)
        summary = searched(tmp_path / "fuzz.json", *words, show=True)
    assert sum(tally["inputs"] for tally in summary.values()) > float(SECONDS)
    assert not [name for name, tally in summary.items() if tally["findings"]]
