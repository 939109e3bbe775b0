"""Try random inputs at every door; print and write how many, and what they found."""

from __future__ import annotations

import argparse
import faulthandler
import json
import resource
import sys
import time
from pathlib import Path

import torch

from fuzz.door import Door, Tally, search
from fuzz.doors import DOORS

MEMORY = 3 << 30
"""Largest memory of the inputs, in bytes, without the imported packages."""


def main() -> int:
    """Run the search; returns 1 if there are findings."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=50, help="inputs of a door in one round")
    parser.add_argument("--seconds", type=float, default=0, help="more rounds until then; 0: one")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first round")
    parser.add_argument("--door", action="append", choices=[door.name for door in DOORS])
    parser.add_argument("--out", type=Path, default=Path("fuzz.json"), help="the summary, as JSON")
    words = parser.parse_args()
    words.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    faulthandler.enable()
    bound_memory()
    chosen = [door for door in DOORS if not words.door or door.name in words.door]
    tallies = {door.name: Tally() for door in chosen}
    started, seed = time.monotonic(), words.seed
    while True:
        for door in chosen:
            one_round(door, words, seed, tallies)
        seed += 1
        if time.monotonic() - started >= words.seconds:
            break
    words.out.with_suffix(".current").unlink()
    print(table(tallies))
    return int(any(tally.findings for tally in tallies.values()))


def one_round(door: Door, words: argparse.Namespace, seed: int, tallies: dict[str, Tally]) -> None:
    """Search at one door, and write the summary so far."""
    current = words.out.absolute().with_suffix(".current")
    search(door, round(words.inputs * door.weight), seed, tallies[door.name], current)
    summary = {name: tally.summary() for name, tally in tallies.items()}
    words.out.write_text(json.dumps(summary, indent=2), encoding="utf-8")


def bound_memory() -> None:
    """Let larger allocations fail, so that an input that asks for them is a finding."""
    sizes = Path("/proc/self/statm")
    if not sizes.exists():  # as on macOS
        return
    pages = int(sizes.read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def table(tallies: dict[str, Tally]) -> str:
    """The number of inputs at each door, and the findings."""
    lines = []
    for name, tally in tallies.items():
        lines.append(
            f"{name:<16}{tally.inputs:>8} inputs {tally.accepted:>8} accepted"
            f"{len(tally.findings):>5} findings {tally.seconds:>8.1f} s"
        )
        for finding in tally.findings.values():
            lines += [f"    {finding.count} x {finding.detail}", f"        {finding.shown}"]
    total = sum(tally.inputs for tally in tallies.values())
    findings = sum(len(tally.findings) for tally in tallies.values())
    return "\n".join([*lines, f"{total} inputs, {findings} findings"])


if __name__ == "__main__":
    sys.exit(main())
