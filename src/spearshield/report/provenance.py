"""Where the numbers come from: recipes, devices, versions and hyper-parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from spearshield.judging.results import WORST_CASE
from spearshield.report import words
from spearshield.report.layout import Defence, configuration
from spearshield.report.runs import Run


def origins(runs: Sequence[Run]) -> list[dict[str, str]]:
    """A line for each run, recipe, device and set of versions: name of a column to its text."""
    seeds: dict[str, set[int]] = {}
    lines: dict[str, dict[str, str]] = {}
    for run in runs:
        for row in run.rows:
            line = {"run": run.name, "recipe": row.recipe, "device": row.device, **row.versions}
            key = json.dumps(line, sort_keys=True)
            lines[key] = line
            seeds.setdefault(key, set()).add(row.seed)
    columns = dict.fromkeys(column for line in lines.values() for column in line)
    return [
        {column: line.get(column, "") for column in columns}
        | {"seeds": ", ".join(map(str, sorted(seeds[key])))}
        for key, line in lines.items()
    ]


def details(runs: Sequence[Run], defences: Sequence[Defence]) -> dict[str, str]:
    """Titles and the JSON behind them: of each run the recipe, of each defence the parameters."""
    recipes = {f"Recipe of {run.name}": run.recipe for run in runs if run.recipe}
    return recipes | {
        f"Parameters of {defence.label}: {defence.setting}": _parameters(defence)
        for defence in defences
    }


def _parameters(defence: Defence) -> str:
    attacks: dict[str, Any] = {
        cell.title: words.hyper(cell.row) for cell in defence.cells if cell.row.attack != WORST_CASE
    }
    return json.dumps({**configuration(defence.first), "attacks": attacks}, indent=2)
