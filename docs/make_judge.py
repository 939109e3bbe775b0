"""Write the judge's checks and its self-test into docs/evaluation.md."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from spearshield.judging.checks import CHECKS
from spearshield.judging.selftest import Judged, selftest

PAGE = Path(__file__).with_name("evaluation.md")


def checks() -> str:
    """Every check, and what holds for an honest evaluation."""
    lines = ["| check | what must hold |", "|---|---|"]
    for check in CHECKS:
        said = (inspect.getdoc(check) or "").partition("\n\n")[0]
        lines.append(f"| `{check.__name__}` | {' '.join(said.split())} |")
    return "\n".join(lines)


def table(rows: list[Judged]) -> str:
    """What the judge made of each defence; what was meant to find it in bold."""
    lines = ["| defence | what is wrong | PGD-40 | found | verdict |", "|---|---|---:|---|---|"]
    for row in rows:
        found = [f"**{name}**" if name in row.expected else name for name in row.found]
        cells = [row.defence, row.fault or "nothing", f"{100 * row.robust_acc:.0f} %"]
        lines.append("| " + " | ".join([*cells, ", ".join(found) or "nothing", row.verdict]) + " |")
    return "\n".join(lines)


def placed(page: str, name: str, text: str) -> str:
    """The page with ``text`` between its two marks."""
    mark = f"<!-- {name} -->"
    return re.sub(f"{mark}.*?{mark}", f"{mark}\n{text}\n{mark}", page, flags=re.DOTALL)


if __name__ == "__main__":
    page = placed(PAGE.read_text(encoding="utf-8"), "checks", checks())
    page = placed(page, "selftest", table(selftest()))
    PAGE.write_text(page, encoding="utf-8")
