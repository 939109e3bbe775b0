"""The lock of a folder: one process at a time, and released when the process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spearshield.storage.lock import locked

HOLD = """
import sys
from pathlib import Path
from spearshield.storage.lock import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_refused_until_the_first_one_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    src = str(Path(__file__).parents[2] / "src")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": src},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="run is in use by another process"), locked(folder):
            pass
        other.kill()
        other.wait()
        with locked(folder):
            pass


def test_a_process_may_enter_again(tmp_path: Path) -> None:
    with locked(tmp_path), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
