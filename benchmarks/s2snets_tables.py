"""The tables of docs/results/s2snets_cifar10_jpeg and ..._imagenet, as Markdown.

    python benchmarks/s2snets_tables.py FOLDER

FOLDER holds ``results.json``, the rows of a run for each classifier. Accuracy is in percent.
"""

from __future__ import annotations

import sys
from pathlib import Path

from markdown_tables import table

from spearshield.judging import results
from spearshield.judging.results import WORST_CASE, Row
from spearshield.spelling import budget

VIEWS = {
    "oblivious": "Gray-box: images attacked on the bare classifier.",
    "adaptive": "White-box: the attack differentiates the defence.",
    "bpda": "BPDA with the identity in the backward pass.",
    "bpda(approximation)": "BPDA with the differentiable approximation of the defence.",
    "eot(5)": "EOT over 5 draws of a random defence.",
    "eot(5, bpda)": "EOT over 5 draws, BPDA in each.",
    "eot(10)": "EOT over 10 draws of a random defence.",
    "eot(10, bpda)": "EOT over 10 draws, BPDA in each.",
}


def clean_table(rows: list[Row]) -> list[str]:
    """Clean accuracy on the most images that any attack of the run has."""
    most = max(row.images for row in rows)
    found = {row.method: row.acc for row in rows if row.images == most}
    lines = [["defence", f"clean, {most:,} images"]]
    lines += [[f"`{method}`", f"{100 * share:.1f}"] for method, share in found.items()]
    return table(lines)


def view_tables(rows: list[Row], view: str) -> list[str]:
    """A table of robust accuracy for each attack through one view, with a column for each budget.

    The bare classifier has no purifier to differentiate, so its rows are white-box.
    """
    lines = []
    seen = [row for row in rows if str(row.view) == view]
    for attack in dict.fromkeys(row.attack for row in seen):
        count = min(row.images for row in seen if row.attack == attack)
        counted = [row for row in rows if (row.attack, row.images) == (attack, count)]
        own = [row for row in counted if str(row.view) == view]
        bare = [row for row in counted if row.view == "adaptive" and row.method not in methods(own)]
        shown = [*bare, *own] if view == "oblivious" else own
        budgets = sorted({row.eps for row in own})
        threat = own[0].threat
        head = [f"{threat} {budget(eps)}" for eps in budgets]
        cells = [[f"{attack}, {count:,} images", *head]]
        for method in dict.fromkeys(row.method for row in shown):
            of = {row.eps: row.robust_acc for row in shown if row.method == method}
            line = [f"{100 * of[eps]:.1f}" if eps in of else "" for eps in budgets]
            cells.append([f"`{method}`", *line])
        lines += ["", *table(cells)]
    return lines


def methods(rows: list[Row]) -> set[str]:
    """The names of the defences of some rows."""
    return {row.method for row in rows}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    every = [row for row in results.read(folder / "results.json") if row.attack != WORST_CASE]
    for classifier in dict.fromkeys(row.classifier for row in every):
        rows = [row for row in every if row.classifier == classifier]
        print(f"### {classifier}\n\n" + "\n".join(clean_table(rows)))
        for view, title in VIEWS.items():
            if lines := view_tables(rows, view):
                print(f"\n{title}\n" + "\n".join(lines))
        print()
