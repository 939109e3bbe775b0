"""Print the results of judges.py in Markdown: ``python benchmarks/judges_table.py FILE ...``.

Robust accuracies are in percent and regrets in points: the robust accuracy of the standard battery
minus the robust accuracy of another judge, or of all other tools together.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

BATTERIES = ("standard", "quick")


def main(files: list[str]) -> None:
    cases = [
        {row["judge"]: row for row in json.loads(Path(file).read_text(encoding="utf-8"))}
        for file in files
    ]
    tools = list(dict.fromkeys(name for rows in cases for name in rows if name not in BATTERIES))
    heads = ["victim", "data", "budget", "images", "clean", *BATTERIES, *tools, "all tools"]
    heads += ["regret, worst tool", "regret, all tools", "broken only here", "quick - standard"]
    heads += ["time: AutoAttack / standard", "time: standard / quick"]
    print("|", " | ".join(heads), "|")
    print("|", " | ".join("---" if i < 3 else "---:" for i in range(len(heads))), "|")
    for file, rows in zip(files, cases, strict=True):
        print("|", " | ".join(cells(Path(file).stem, rows, tools)), "|")


def cells(name: str, rows: dict[str, dict[str, Any]], tools: list[str]) -> list[str]:
    """The cells of one victim."""
    ours, quick, theirs = rows["standard"], rows["quick"], rows["pyautoattack"]
    robust = {judge: row["broken"].count("0") / row["images"] for judge, row in rows.items()}
    masks = [row["broken"] for judge, row in rows.items() if judge in tools]
    together = "".join(max(bits) for bits in zip(*masks, strict=True))
    union = together.count("0") / ours["images"]
    worst = min(robust[tool] for tool in tools if tool in robust)
    only_here = sum(a > b for a, b in zip(ours["broken"], together, strict=True))
    return [
        name,
        ours["data"],
        f"{ours['threat']} {ours['eps']:.3g}",
        f"{ours['images']:,}",
        f"{100 * ours['acc']:.1f}",
        *(f"{100 * robust[judge]:.1f}" if judge in rows else "" for judge in (*BATTERIES, *tools)),
        f"{100 * union:.1f}",
        *(f"{100 * (robust['standard'] - other):+.1f}" for other in (worst, union)),
        str(only_here),
        f"{100 * (robust['quick'] - robust['standard']):+.1f}",
        f"{theirs['process_seconds'] / ours['process_seconds']:.2f}",
        f"{ours['process_seconds'] / quick['process_seconds']:.1f}",
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
