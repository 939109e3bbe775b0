"""Write the table of mutations in CONTRIBUTING.md, from the decorators of the tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- begin: docs/make_mutations.py -->\n", "<!-- end -->\n"


def mutations() -> Iterator[tuple[str, str, str]]:
    """The name, the test file and the test of every mutation."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for call in getattr(node, "decorator_list", ()):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "fails_under":
                    name = ast.literal_eval(call.args[0])
                    yield name, path.relative_to(ROOT / "tests").as_posix(), node.name


def table() -> str:
    """One row for each mutation: its name, the test file, and the test that fails under it."""
    rows = [f"| {name} | `{file}` | `{test}` |" for name, file, test in mutations()]
    return "\n".join(["| mutation | test file | test that fails |", "|---|---|---|", *rows, ""])


def page(text: str) -> str:
    """The text of CONTRIBUTING.md with a table that is up to date."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
