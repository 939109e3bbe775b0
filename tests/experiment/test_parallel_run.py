"""The script that runs each training and each evaluation in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from fixtures.scripts import FOLDER
from spearshield.judging import results

WORDS = ["--set", "pretraining.steps=3", "--set", "defences.0.steps=3", "--set", "images=20"]


def test_its_rows_and_weights_are_those_of_the_command_run(tmp_path):
    parallel, plain = tmp_path / "parallel", tmp_path / "plain"
    script = [sys.executable, str(FOLDER / "parallel_run.py"), "quickstart", *WORDS]
    command = [sys.executable, "-m", "spearshield", "run", "quickstart", *WORDS]
    subprocess.run([*script, "--out", str(parallel)], check=True, capture_output=True)
    subprocess.run([*command, "--out", str(plain)], check=True, capture_output=True)

    one, other = (results.read(folder / "results.json") for folder in (parallel, plain))
    assert [row.robust_acc for row in one] == [row.robust_acc for row in other]
    assert [row.weights_digest for row in one] == [row.weights_digest for row in other]
    assert all((row.command or "").endswith(f"--out {parallel}") for row in one)
    assert (parallel / "report.html").exists()
