"""The rows of ``benchmarks/speed.py`` as Markdown.

python benchmarks/speed_table.py docs/results/speed/speed.json
python benchmarks/speed_table.py docs/results/speed/memory.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("file", type=Path)
    saved = json.loads(words.parse_args().file.read_text(encoding="utf-8"))
    print(f"{saved['processor']}, torch {saved['versions']['torch']}, one thread.\n")
    if "before, MB" in saved["rows"][0]:
        print("| images | before, MB | after, MB |\n|---:|---:|---:|")
        for row in saved["rows"]:
            print(f"| {row['images']:,} | {row['before, MB']:.0f} | {row['after, MB']:.0f} |")
        return
    loop = "share of a hand-written loop's speed"
    print(f"| part | before, s | after, s | times as fast | {loop}, before | {loop}, after |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in saved["rows"]:
        print(line(row))


def line(row: dict[str, Any]) -> str:
    """The line of one part."""
    before, after = row["before, seconds"], row["after, seconds"]
    shares = [row.get(f"{tree}, share of the hand-written speed") for tree in ("before", "after")]
    beside = " | ".join("" if share is None else f"{share:.2f}" for share in shares)
    return f"| {row['part']} | {before:.3g} | {after:.3g} | {before / after:.2f} | {beside} |"


if __name__ == "__main__":
    main()
