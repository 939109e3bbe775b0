"""The script that runs command lines for a given time."""

from __future__ import annotations

import sys
import time

from fixtures.scripts import script


def job(jobs, name, code, **about):
    return jobs.Job(name, [sys.executable, "-c", code], **about)


def test_jobs_wait_for_what_they_need_and_not_after_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    jobs = script("jobs")
    write = "import os; open(os.environ['PLACE'], 'a').write('{}')"
    jobs.run_jobs(
        [
            job(jobs, "second", write.format("b"), needs=("first",)),
            job(jobs, "first", write.format("a"), workers=5),  # more than there are: runs alone
            job(jobs, "failing", "raise SystemExit(3)"),
            job(jobs, "never", write.format("c"), needs=("failing",)),
        ],
        workers=2,
        ends=time.monotonic() + 60,
        environment={"PLACE": "made.txt"},
    )
    assert (tmp_path / "made.txt").read_text() == "ab"
    said = capsys.readouterr().out
    assert "failing: exit 3" in said and "not started: ['never']" in said


def test_jobs_are_stopped_when_the_time_is_up(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    jobs = script("jobs")
    begun = time.monotonic()
    saving = (
        "import pathlib, signal, sys, time\n"
        "def save(*_):\n"
        "    time.sleep(1)\n"
        "    pathlib.Path('saved').touch()\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "pathlib.Path('ready').touch()\n"
        "time.sleep(60)\n"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {saving!r}])"
    jobs.run_jobs([job(jobs, "parent", parent)], workers=1, ends=begun + 3, environment={})
    assert (tmp_path / "ready").exists()
    assert (tmp_path / "saved").exists()  # by the child, after its parent has ended
    assert time.monotonic() - begun < 20
    assert "parent: stopped" in capsys.readouterr().out
