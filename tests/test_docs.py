"""The documentation agrees with the code: cards, tables, links and results."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

from spearshield.discover import discover
from spearshield.judging import results
from spearshield.method import Method
from spearshield.report import write_report
from spearshield.selftest import SPECIMENS

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def script(name: str) -> ModuleType:
    """A script of docs, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_checks_and_the_self_test_are_listed():
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert script("make_judge").checks() in page, "run docs/make_judge.py"
    for name in (specimen.name for specimen in SPECIMENS):
        assert f"| {name} |" in page, f"run docs/make_judge.py: no {name}"


def test_every_method_has_the_card_its_file_gives():
    cards = script("make_cards")
    for name, method in discover("methods", Method).items():
        written = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
        assert written == cards.card(name, method), f"run docs/make_cards.py: {name}.md is stale"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / unquote(target)).exists(), target


@pytest.mark.parametrize("path", [*(ROOT / "docs" / "results").rglob("results.json")], ids=str)
def test_committed_results_keep_the_schema_and_make_a_report(path, tmp_path):
    rows = results.read(path)
    write_report([path.parent], tmp_path)
    assert rows[0].recipe in (tmp_path / "report.md").read_text(encoding="utf-8")
    readme = (path.parent / "README.md").read_text(encoding="utf-8")
    assert f"spearshield run {rows[0].recipe}" in readme


def test_files_without_later_fields_stay_valid():
    row = results.schema()["items"]
    later = {"verdict", "findings", "repeated", "rejected", "auc", "curve", "command", "commit"}
    later |= {
        "data_digest",
        "weights_digest",
        "created",
        "reused",
        "attacked",
        "broke",
        "proved",
        "normalised_l2",
    }
    assert set(row["properties"]) - set(row["required"]) == later
    json.dumps(results.schema())


def test_the_table_of_mutations_is_up_to_date():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert script("make_mutations").page(page) == page, "run docs/make_mutations.py"
