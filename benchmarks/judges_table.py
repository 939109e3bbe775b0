"""Print the results of judges.py in Markdown: ``python benchmarks/judges_table.py FILE ...``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

COLUMNS = ("victim", "data", "eps", "images", "clean")
JUDGES = ("spearshield", "auto_attack", "pyautoattack", "foolbox", "art")


def main(files: list[str]) -> None:
    heads = [
        *COLUMNS,
        *JUDGES,
        "images only spearshield broke",
        "images only others broke",
        "time: AutoAttack / spearshield",
    ]
    print("|", " | ".join(heads), "|")
    print("|", " | ".join("---" if i < 2 else "---:" for i in range(len(heads))), "|")
    for file in files:
        rows = {row["judge"]: row for row in json.loads(Path(file).read_text(encoding="utf-8"))}
        ours = rows["spearshield"]
        cells = [
            f"{ours['victim']} ({ours['weights'] or 'trained here'})",
            ours["data"],
            f"{ours['eps']:.3g}",
            f"{ours['images']:,}",
            f"{100 * ours['acc']:.1f}",
            *(f"{100 * rows[j]['robust_acc']:.1f}" if j in rows else "" for j in JUDGES),
            str(ours["broken_only_here"]),
            str(max(row["broken_unlike_ours"] for row in rows.values())),
        ]
        theirs = rows.get("pyautoattack")
        times = theirs["process_seconds"] / ours["process_seconds"] if theirs else None
        print("|", " | ".join(cells), "|", f"{times:.2f} |" if times else "|")


if __name__ == "__main__":
    main(sys.argv[1:])
