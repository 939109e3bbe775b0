"""The lock of a folder: one process at a time, and released when the process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

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
        said = rf"run is in use by another process \(process {other.pid} on .*\); wait until"
        with pytest.raises(ValueError, match=said), locked(folder):
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


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_lock_that_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other.txt"
    other.write_text("kept")
    path = tmp_path / "run" / ".lock"
    path.parent.mkdir()
    {"link": lambda: path.symlink_to(other), "folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}[
        kind
    ]()
    said = r"\.lock is not a regular file; delete it"
    with pytest.raises(ValueError, match=said), locked(tmp_path / "run"):
        pass
    assert other.read_text() == "kept"


def test_a_folder_without_the_right_to_write_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", denied)
    said = "cannot be written to: permission denied; choose"
    with pytest.raises(PermissionError, match=said), locked(tmp_path):
        pass
