"""The page: its policy, its accessibility, its colours, and rows of every kind."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from mutations import fails_under
from report.samples import EVIL, PGD, Page, curved, row, rows, run_folder, written
from spearshield.judging.results import WORST_CASE, Row
from spearshield.report import render, write_report

STYLE = Path(render.__file__).with_name("templates") / "style.css"


def html(tmp_path: Path, given: Sequence[Row], **picture: object) -> str:
    source = run_folder(tmp_path / "run", given, **picture)
    write_report([source], tmp_path / "out")
    return (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@fails_under(
    "the policy names another digest",
    (render, "hashlib", SimpleNamespace(sha256=hashlib.sha512)),
)
def test_the_policy_allows_the_own_script_and_style_only(tmp_path: Path) -> None:
    text = html(tmp_path, rows(), eps=0.3)
    policy = [about["content"] for _, about in Page(text).tags if "http-equiv" in about]
    digests = []
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digests.append(base64.b64encode(hashlib.sha256(content.encode()).digest()).decode())
    assert policy == [
        f"default-src 'none'; script-src 'sha256-{digests[0]}'; style-src 'sha256-{digests[1]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    ]
    assert not re.search(r"\sstyle=|\son[a-z]+=", text)


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    text = html(tmp_path, rows(), eps=0.3)
    page = Page(text)
    for tag, about in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "action"):
            assert (about.get(name) or "#").startswith(("data:", "#"))
    assert not [word for word in ("://", "@import", "url(", "fetch(", "eval(") if word in text]
    ids = [about["id"] for _, about in page.tags if "id" in about]
    assert len(ids) == len(set(ids))
    assert {about["href"] for tag, about in page.tags if tag == "a"} <= {f"#{i}" for i in ids}


def test_equal_results_make_equal_pages_with_the_date_of_the_measurement(tmp_path: Path) -> None:
    given = [replace(each, created="2025-03-01T23:59:59Z") for each in rows()]
    given.append(replace(given[0], created="2025-03-04T00:00:00Z", seed=1))
    pages = [html(tmp_path / name, given, eps=0.3) for name in ("a", "b")]
    assert pages[0] == pages[1]
    versions = "with python 3.12.1, spearshield 0.1.0, torch 2.13.0, on cpu"
    assert f"Measured 2025-03-01 to 2025-03-04 {versions}" in Page(pages[0]).text
    undated = Page(html(tmp_path / "c", rows())).text
    assert f"Measured on a day that is not recorded {versions}" in undated


def test_every_row_unfolds_to_its_settings_its_origin_and_its_command(tmp_path: Path) -> None:
    known = {"command": "spearshield run demo --set x=<b>", "created": "2026-11-26T09:20:42Z"}
    reused = row(**known, view="eot(20)", reused=True)
    page, _ = written(tmp_path, run_folder(tmp_path / "run", [reused, *rows()]))
    for text in (
        "attack settings steps=40, step_size=null, restarts=5 ",
        "view EOT, 20 draws (eot(20)) ",
        "images 1,000 test images of mnist, seed 0; the attack was tried on 20 of them ",
        "time 12.3 s in total ",
        "measured 2026-11-26T09:20:42Z reused from an earlier run ",
        "device cpu ",
        "versions python 3.12.1, spearshield 0.1.0, torch 2.13.0 ",
        "repeat with spearshield run demo --set x=<b>",
        "repeat with not recorded; the row was measured from Python",
    ):
        assert text in page.spaced
    assert [about.get("class") for tag, about in page.tags if tag == "details"].count("more") == 4


def _many() -> list[Row]:
    return [row(attack=f"attack_{i % 50}", view=f"view_{i}", seed=i % 4) for i in range(199)]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param([row()], id="one row"),
        pytest.param([row(attack=WORST_CASE, view=WORST_CASE, parameters={})], id="a worst case"),
        pytest.param([*_many(), row(attack=WORST_CASE, view=WORST_CASE)], id="200 rows"),
        pytest.param([*rows(method="x" * 300), *rows(classifier="y" * 300)], id="long names"),
        pytest.param(
            rows(method="Schild \u76fe \U0001f6e1", data="\u05de\u05d2\u05df"), id="any script"
        ),
        pytest.param(rows(method=EVIL, device=EVIL, data="'\"&"), id="markup"),
        pytest.param([row(asr=None, dsr=None, acc=0.0, robust_acc=0.0)], id="nothing right"),
        pytest.param([row(attacked=0, broke=0, view="oblivious")], id="none left"),
        pytest.param([curved([0.9, 0.5, 0.1]), *rows(seed=1, device="cuda")], id="curve"),
    ],
)
def test_pages_of_every_kind_are_whole_small_and_accessible(
    tmp_path: Path, given: list[Row]
) -> None:
    text = html(tmp_path, given, eps=0.25, parameters=PGD)
    assert len(text) < 60_000 + 3_500 * len(given)
    page = Page(text)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    assert all(about.get("alt") for tag, about in page.tags if tag == "img")
    assert all({"role", "aria-hidden"} & {*about} for tag, about in page.tags if tag == "svg")
    labelled = {about.get("for") for tag, about in page.tags if tag == "label"}
    assert {about["id"] for tag, about in page.tags if tag == "input"} <= labelled
    for table in re.findall(r"<table.*?</table>", text, flags=re.DOTALL):
        widths = {
            len(re.findall(r"<t[dh]\b", line))
            for line in re.findall("<tr.*?</tr>", table, re.DOTALL)
        }
        assert len(widths - {1}) == 1


def _luminance(colour: str) -> float:
    shares = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_texts_have_the_contrast_of_wcag_aa(theme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", STYLE.read_text(encoding="utf-8"), flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[theme]))
    for page in ("page", "faint"):
        for text in ("text", "soft", "accent", "right", "wrong", "warn"):
            light, dark = sorted((_luminance(colours[c]) for c in (page, text)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (page, text)
