"""Command lines that share one machine for a given time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, eq=False)
class Job:
    """A command line.

    Args:
        needs: Names of the jobs that must end without an error before.
        workers: Number of processes that it runs at a time.
    """

    name: str
    command: list[str]
    needs: tuple[str, ...] = ()
    workers: int = 1


def run_jobs(
    jobs: Sequence[Job], workers: int, ends: float, environment: Mapping[str, str]
) -> None:
    """Run the jobs in order, with some processes at a time, and stop all when the time is up.

    A job starts as soon as there is room for it and the jobs that it needs have ended. The outputs
    go to ``logs/``.

    Args:
        workers: Number of processes at a time.
        ends: The time of :func:`time.monotonic` at which all jobs are stopped.
        environment: Variables that all jobs get.
    """
    waiting, running = [*jobs], dict[Job, subprocess.Popen[Any]]()
    Path("logs").mkdir(exist_ok=True)
    try:
        work(waiting, running, workers, ends, environment)
    finally:
        for job, process in running.items():
            print(f"{job.name}: stopped", flush=True)
            os.killpg(process.pid, signal.SIGTERM)
        latest = time.monotonic() + 10  # for the checkpoints of all processes of a job
        for process in running.values():
            while alive(process) and time.monotonic() < latest:
                time.sleep(0.1)
            if alive(process):
                os.killpg(process.pid, signal.SIGKILL)
        print("not started:", [job.name for job in waiting], flush=True)


def work(
    waiting: list[Job],
    running: dict[Job, subprocess.Popen[Any]],
    workers: int,
    ends: float,
    environment: Mapping[str, str],
) -> None:
    """Start the waiting jobs, until all have ended or the time is up."""
    done = set[str]()
    while time.monotonic() < ends:
        free = workers - sum(job.workers for job in running)
        ready = (
            job
            for job in waiting
            if done.issuperset(job.needs) and (job.workers <= free or not running)
        )
        if job := next(ready, None):
            waiting.remove(job)
            running[job] = started(job, environment)
            continue
        if not running:
            return
        time.sleep(0.2)
        for job, process in [*running.items()]:
            if process.poll() is not None:
                del running[job]
                report(job.name, process.returncode)
                done |= set() if process.returncode else {job.name}


def alive(process: subprocess.Popen[Any]) -> bool:
    """True while a process of the job runs."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def log_of(name: str) -> Path:
    return Path("logs", f"{name}.log")


def started(job: Job, environment: Mapping[str, str]) -> subprocess.Popen[Any]:
    """The process of a job, whose output goes to a file."""
    print(" ".join(job.command[1:]), flush=True)
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with log_of(job.name).open("wb") as log:
        return subprocess.Popen(
            job.command, stdout=log, stderr=subprocess.STDOUT, env=own, start_new_session=True
        )


def report(name: str, code: int) -> None:
    """Print how a job ended, and the end of its output."""
    print(f"{name}: exit {code}", flush=True)
    print(log_of(name).read_text()[-3000 if code else -1000 :], flush=True)
