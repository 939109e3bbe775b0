"""Reports: the numbers, findings and pictures that they show, and the sources that they refuse."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from spearshield.judging import results
from spearshield.judging.results import WORST_CASE, Row
from spearshield.judging.score import Score
from spearshield.report import merge, words, write_report
from spearshield.report.defences import group
from spearshield.report.document import Report, document
from spearshield.report.findings import SEEDS, VERDICTS
from spearshield.report.runs import Run
from spearshield.report.tables import Table
from spearshield.threat import L2, Linf

VERSIONS = {"python": "3.12.1", "spearshield": "0.1.0", "torch": "2.13.0"}
PGD = {"steps": 40, "step_size": None, "restarts": 5}
EVIL = '<script>alert("1")</script>'


def row(**changes: Any) -> Row:
    plain = Row(
        recipe="demo",
        data="mnist",
        split="test",
        images=1000,
        classifier="lenet",
        method="ape_gan",
        attack="pgd",
        threat="Linf",
        eps=0.3,
        view="adaptive",
        acc=0.98,
        robust_acc=0.25,
        interval=(0.22, 0.28),
        asr=0.99,
        dsr=None,
        ssim=0.4321,
        l2=5.678,
        linf=0.3,
        seconds_per_image=0.0123,
        forwards_per_image=151.4,
        seed=0,
        device="cpu",
        versions=VERSIONS,
        parameters={"attack": PGD, "training": {"method": {"width": 64}, "steps": 10}},
    )
    return replace(plain, **changes)


def rows(**changes: Any) -> list[Row]:
    """One defence: an oblivious row, an adaptive row and their worst case."""
    oblivious = {"attack": "fgsm", "view": "oblivious", "robust_acc": 0.9, "interval": (0.88, 0.92)}
    worst = {"attack": WORST_CASE, "view": WORST_CASE, "robust_acc": 0.2, "interval": (0.18, 0.22)}
    bare = {"training": row().parameters["training"]}
    return [
        row(**{**oblivious, "parameters": {**bare, "attack": {}}, **changes}),
        row(**changes),
        row(**{**worst, "parameters": {**bare, "cells": 2}, **changes}),
    ]


def run_folder(folder: Path, rows: Sequence[Row], **picture: Any) -> Path:
    """A run folder with these rows and, if ``picture`` is given, one picture."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps([asdict(row) for row in rows]))
    (folder / "recipe.json").write_text(json.dumps({"name": "demo", "recipe": {"seed": 0}}))
    if picture:
        draw(folder / "pictures" / "ape_gan.pgd.eot(20).0a1b2c3d.safetensors", **picture)
    return folder


def draw(path: Path, **changes: Any) -> None:
    """Two 4 x 4 images; in the second, one pixel is brighter and one darker than before."""
    x = np.full((2, 1, 4, 4), 0.5, dtype=np.float32)
    x_adv = x.copy()
    x_adv[1, 0, 0, 0] += 0.25
    x_adv[1, 0, 3, 3] -= 0.25
    about = {
        "method": "ape_gan",
        "attack": "pgd",
        "view": "eot(20)",
        "threat": "Linf",
        "eps": 0.25,
        "truth": ["seven", "two"],
        "bare_clean": ["seven", "two"],
        "bare_adv": ["seven", "five"],
        "victim_clean": ["seven", "two"],
        "victim_adv": ["seven", "one"],
        "x": x,
        "x_adv": x_adv,
        "x_hat": x,
    } | changes
    path.parent.mkdir(exist_ok=True)
    tensors = {name: about.pop(name) for name in ("x", "x_adv", "x_hat")}
    save_file(
        {k: v for k, v in tensors.items() if v is not None}, path, {"picture": json.dumps(about)}
    )


class Page(HTMLParser):
    """The tags and the text of a page; refuses unbalanced tags."""

    VOID = ("meta", "link", "img", "br", "wbr", "circle", "rect", "path")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(tmp_path: Path, *sources: Path) -> tuple[Page, str]:
    """The page and the Markdown that a report on ``sources`` writes."""
    write_report(list(sources), tmp_path / "out")
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    return Page(html), (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def report(given: Sequence[Row]) -> Report:
    """The content of a report on one run with these rows."""
    return document([Run("run", Path("run"), tuple(given), (), None)], group(given))


def lines(table: Table) -> list[list[str]]:
    """The texts of a table, each cell as ``strong text / detail / detail``."""
    return [
        [" / ".join((f"{c.strong} {c.text}".strip(), *c.details)) for c in record.cells]
        for _, records in table.plain.groups
        for record in records
    ]


def column(table: Table, title: str) -> list[str]:
    titles = [column.title for column in table.plain.columns]
    return [line[titles.index(title)] for line in lines(table)]


def findings(given: Sequence[Row]) -> str:
    return "\n".join(f"{kind}: {text}" for kind, text in report(given).findings)


WORST = "robust accuracy, worst case over attacks"
SETTING = "mnist, lenet, L\u221e 0.3, 1,000 test images"


def test_headline_shows_the_worst_case_next_to_an_unaware_attacker() -> None:
    table = report(rows()).headline
    assert [title for title, _ in table.groups] == [SETTING]
    unaware = "90.0 [88.0, 92.0] / FGSM, oblivious, 1,000 test images"
    assert lines(table) == [["ape_gan", "98.0", "20.0 [18.0, 22.0]", "2", "0", unaware]]
    (record,) = table.groups[0].records
    assert record.cells[3].drawing == (0.2, (0.18, 0.22), 0.98, 0.9)


def test_every_row_shows_all_measured_values() -> None:
    (table,) = report(rows()).rows
    assert [line[:2] for line in lines(table)] == [
        ["FGSM", "oblivious"],
        ["5 x PGD-40", "adaptive"],
        ["worst case", "all"],
    ]
    values = ["5 x PGD-40", "adaptive", "0", "1,000", "25.0 [22.0, 28.0]", "98.0", "99.0", "n/a"]
    assert lines(table)[1] == [*values, "0.432", "5.68", "0.3", "0.0123", "151", "[1]"]


def test_the_source_of_every_row_names_its_command() -> None:
    given = rows() + rows(seed=1, device="cuda")
    for measured in given[3:]:
        object.__setattr__(measured, "command", "spearshield run demo --seed 1")
    shown = report(given)
    versions = "python 3.12.1, spearshield 0.1.0, torch 2.13.0"
    command = "spearshield run demo --seed 1"
    assert lines(shown.provenance) == [
        ["[1]", "run", "demo", "not recorded", "0", "1,000", "3", "cpu", versions],
        ["[2]", "run", "demo", command, "1", "1,000", "3", "cuda", versions],
    ]
    sources = zip(column(shown.rows[0], "seed"), column(shown.rows[0], "source"), strict=True)
    assert set(sources) == {("0", "[1]"), ("1", "[2]")}


def test_html_and_markdown_show_every_cell_and_finding(tmp_path: Path) -> None:
    first, *others = rows(curve=[(0.0, 0.98), (0.3, 0.25)])
    given = [first, *others, *rows(seed=1), row(method="dae")]
    page, markdown = written(tmp_path, run_folder(tmp_path / "run", given))
    shown = report(given)
    charts = [table for part in shown.parts for _, table in part.figures]
    plain = re.sub(r"\\|\*\*|</?code>", "", markdown)
    for table in (shown.headline, *shown.rows, *charts, shown.provenance):
        assert table.caption in page.text
        for text in {text for line in lines(table) for cell in line for text in cell.split(" / ")}:
            assert text in page.text and text in plain, text
    assert len(shown.findings) >= 3
    for kind, text in shown.findings:
        assert f"{kind} {text}" in page.text and f"{kind} {text}" in plain


def test_seeds_are_averaged_with_their_range_and_the_widest_interval() -> None:
    shares = {0: (0.20, (0.18, 0.22)), 1: (0.23, (0.21, 0.25)), 2: (0.29, (0.26, 0.31))}
    worst = {"attack": WORST_CASE, "view": WORST_CASE, "parameters": {}}
    seeded = [
        row(seed=seed, acc=0.97 + seed / 100, robust_acc=share, interval=interval, **worst)
        for seed, (share, interval) in shares.items()
    ]
    (line,) = lines(report(seeded).headline)
    assert line[1:3] == ["98.0 / 97.0 to 99.0", "24.0 [18.0, 31.0] / 20.0 to 29.0"]
    assert line[4] == "0, 1, 2"
    assert SEEDS in findings(seeded)


def test_defences_are_grouped_by_setting() -> None:
    pairs = [(method, eps) for method in ("ape_gan", "dae") for eps in (0.3, 0.1)]
    table = report([line for m, eps in pairs for line in rows(method=m, eps=eps)]).headline
    assert [title for title, _ in table.groups] == [SETTING, SETTING.replace("0.3", "0.1")]
    assert column(table, "defence") == ["ape_gan", "dae", "ape_gan", "dae"]


def test_the_lowest_of_repeated_measurements_is_shown() -> None:
    worst = {"attack": WORST_CASE, "view": WORST_CASE, "parameters": {}}
    given = [row(robust_acc=share, **worst) for share in (0.5, 0.3, 0.4)]
    (line,) = lines(report(given).headline)
    assert line[2].startswith("30.0 ") and line[4] == "0"
    assert "measured more than once with seed 0; the lowest number is shown" in findings(given)


def test_a_missing_worst_case_is_reported_as_missing() -> None:
    given = rows()[:2]
    lowest = "lowest row: 25.0 [22.0, 28.0], 5 x PGD-40, adaptive, 1,000 test images"
    assert column(report(given).headline, WORST) == [f"not measured / {lowest}"]
    assert "no worst-case row for seed 0" in findings(given)
    assert "robust only" not in findings(given)


@pytest.mark.parametrize(("oblivious", "gap"), [(0.9, False), (0.901, True)])
def test_a_gap_of_more_than_twenty_points_is_a_finding(oblivious: float, gap: bool) -> None:
    first, second, worst = rows()
    given = [replace(first, robust_acc=oblivious), second, replace(worst, robust_acc=0.7)]
    shares = f"{100 * oblivious:.1f} % (worst case 70.0 %)"
    sentence = f"robust only against an attacker unaware of the defence: ape_gan {shares}."
    assert (sentence in findings(given)) == gap


def test_equal_findings_of_one_setting_are_joined() -> None:
    given = []
    for method, robust in (("ape_gan", 0.1), ("dae", 0.2)):
        first, second, worst = rows(method=method)
        given += [first, second, replace(worst, robust_acc=robust, verdict="not trustworthy")]
    gaps = "ape_gan 90.0 % (worst case 10.0 %), dae 90.0 % (worst case 20.0 %)."
    assert findings(given).count("robust only") == 1 and gaps in findings(given)
    verdict = f"ape_gan, dae ({SETTING}, seed 0): {VERDICTS['not trustworthy']}"
    assert findings(given).count(verdict) == 1


@pytest.mark.parametrize("view", ["oblivious", "transferred"])
def test_a_worst_case_without_an_adaptive_attacker_is_an_upper_bound(view: str) -> None:
    first, _, worst = rows()
    assert "not tested with an adaptive attacker" in findings([replace(first, view=view), worst])
    assert "not tested with an adaptive attacker" not in findings(rows())


def test_differences_between_seeds_and_images_are_findings() -> None:
    other_attacks = rows() + rows(seed=1)[1:]
    assert "seeds were not all tested with the same attacks and views" in findings(other_attacks)
    other_images = rows() + rows(images=250)
    settings = [title for title, _ in report(other_images).headline.groups]
    assert settings == [SETTING, SETTING.replace("1,000", "250")]
    sentence = "differ in their number of images: 250 test images and 1,000 test images."
    assert sentence in findings(other_images)


def test_attacks_on_more_images_belong_to_the_worst_case_that_follows() -> None:
    oblivious, adaptive, worst = rows()
    given = [replace(oblivious, images=10_000), adaptive, worst]
    (line,) = lines(report(given).headline)
    assert line[2].startswith("20.0") and line[5].endswith("FGSM, oblivious, 10,000 test images")
    assert column(report(given).rows[0], "images") == ["10,000", "1,000", "1,000"]
    assert "robust only" in findings(given) and "differ in their number" not in findings(given)


def test_checks_and_repeated_answers_are_findings() -> None:
    *cells, worst = rows()
    found = {
        "check": "black_box",
        "severity": "high",
        "saw": {"images broken": 0.1234},
        "means": "Masked gradients.",
        "next": "look.",
    }
    repeated = {"one_shot": (0.9, 0.5), "worst_of": (0.7, 0.1)}
    worst = replace(worst, findings=[found], repeated=repeated, rejected=(0.03, 0.65))
    told = findings([*cells, worst])
    assert "black_box: images broken 0.123. Masked gradients. Next: look." in told
    assert "one shot: 90.0 % clean, 50.0 % under attack" in told
    assert "worst of: 70.0 % clean, 10.0 % under attack" in told
    assert "rejects 3.0 % of the clean and 65.0 % of the attacked images" in told
    assert [finding.kind for finding in report([*cells, worst]).findings if finding.alarming] == [
        "gap",
        "high",
    ]


def outcomes(robust_adv: Sequence[int], l2: Sequence[float], linf: Sequence[float]) -> Score:
    """A score over images of class 0; the last image is misclassified without attack."""
    n = len(robust_adv)
    zero, ones = torch.zeros(n, dtype=torch.long), torch.ones(n)
    return Score(
        ids=torch.arange(n),
        y=zero,
        victim_clean=torch.tensor([0] * (n - 1) + [1]),
        victim_adv=torch.tensor(robust_adv),
        bare_clean=zero,
        bare_adv=zero,
        l2=torch.tensor(l2),
        linf=torch.tensor(linf),
        ssim=ones,
        clean_draws=zero[:, None][:, :0],
        adv_draws=zero[:, None][:, :0],
        clean_detection=ones[:, None][:, :0],
        adv_detection=ones[:, None][:, :0],
        seconds=1.0,
        forwards=n,
    )


def charts(given: Sequence[Row]) -> list[list[list[str]]]:
    """The lines of the table of every chart."""
    return [lines(table) for part in report(given).parts for _, table in part.figures]


def test_a_curve_counted_by_hand_from_the_outcomes_to_the_table(tmp_path: Path) -> None:
    # broken at 0.1; survives; broken just past the budget; misclassified without attack
    score = outcomes([1, 0, 1, 0], l2=[0.1, 0.05, 0.400009, 0.1], linf=[0.3, 0.01, 0.3, 0.01])
    curve = score.curve(L2(0.4))
    distances, shares = zip(*curve, strict=True)
    assert distances == pytest.approx([k * 0.02 for k in range(21)], abs=1e-12)
    assert shares == (0.75,) * 5 + (0.5,) * 15 + (0.25,)
    assert (shares[0], shares[-1]) == (score.acc, score.robust_acc)
    assert [share for _, share in score.curve(Linf(0.3))] == [0.75] * 20 + [0.25]
    about = ("recipe", "data", "split", "classifier", "method", "view", "seed", "device")
    told = {name: getattr(row(), name) for name in (*about, "parameters")}
    measured = results.row(score, **told, attack="fmn", threat="L2", eps=0.4, curve=curve)
    run = run_folder(tmp_path / "run", [measured])
    assert results.read(run / "results.json") == [measured]
    ((line,),) = charts([measured])
    assert line[0].startswith("ape_gan, ") and line[0].endswith("FMN, adaptive")
    assert line[1:] == ["75.0", "50.0", "50.0", "50.0", "25.0"]
    ((_, table),) = report([measured]).parts[0].figures
    at = [column.title for column in table.columns[2:]]
    assert at == ["at 0", "at 0.1", "at 0.2", "at 0.3", "at 0.4"]


def curved(shares: Sequence[float], **changes: Any) -> Row:
    """A row of FMN with a curve through these shares at even distances."""
    eps = changes.get("eps", 0.3)
    points = [(eps * k / (len(shares) - 1), share) for k, share in enumerate(shares)]
    plain = {"attack": "fmn", "parameters": {"attack": {}}, "curve": points}
    return row(**{**plain, "acc": shares[0], "robust_acc": shares[-1], **changes})


def test_a_line_is_drawn_through_its_points(tmp_path: Path) -> None:
    page, _ = written(tmp_path, run_folder(tmp_path / "run", [curved([1.0, 0.75, 0.0])]))
    drawn = next(about["d"] for _, about in page.tags if about.get("class") == "curve")
    assert drawn == "M52.0 12.0L340.0 82.0L628.0 292.0"
    assert "ape_gan, FMN, adaptive: 100.0 % at 0, 75.0 % at 0.15, 0.0 % at 0.3." in page.text


@pytest.mark.parametrize(
    "fault", [[(0.0, 1.2), (0.3, 0.1)], [(0.0, 0.9)], [(-1.0, 1.0), (0.0, 0.0)]]
)
def test_an_impossible_curve_is_refused(tmp_path: Path, fault: list[tuple[float, float]]) -> None:
    run = run_folder(tmp_path / "run", [row(curve=fault)])
    with pytest.raises(ValueError, match=r"results\.json: \$\[0\]\.curve"):
        merge([run])


def test_only_curves_of_one_setting_share_a_chart() -> None:
    shares = [0.9, 0.6, 0.3]
    given = [
        curved(shares),
        curved(shares, attack="deepfool"),
        curved(shares, method="dae", images=500),
        curved(shares, method="dae"),
        curved(shares, threat="L2"),
        curved([0.9, 0.3], method="vae"),
    ]
    assert [[line[0].split(", ")[:2] for line in chart] for chart in charts(given)] == [
        [["ape_gan", "FMN"], ["ape_gan", "DeepFool"], ["dae", "FMN"]],
        [["vae", "FMN"]],
        [["dae", "FMN"]],
        [["ape_gan", "FMN"]],
    ]


def test_lines_of_one_chart_differ_in_mark_or_dashes() -> None:
    given = [
        curved([0.9, 0.6, 0.3], method=f"m{i}", attack=f"attack{j}", view=view)
        for i in range(7)
        for j in range(3)
        for view in ("adaptive", "oblivious")
    ]
    drawn = [chart for chart, _ in report(given).parts[0].figures]
    assert [len(chart.lines) for chart in drawn] == [24, 12, 4, 2]
    for chart in drawn:
        styles = {chart.style(line) for line in chart.lines}
        assert len(styles) == len(chart.lines)
        assert all(mark < 6 and dashes < 4 for mark, dashes in styles)


def test_a_curve_is_the_mean_over_seeds() -> None:
    given = [curved([0.9, 0.6, 0.2]), curved([0.9, 0.7, 0.3]), curved([0.7, 0.2, 0.0], seed=1)]
    label = "ape_gan, FMN, adaptive, mean of 2 seeds"
    assert charts(given) == [[[label, "80.0", "40.0", "10.0"]]]


def link(name: str, trained_on: str, attack: str, **changes: Any) -> Row:
    """A row of one round under the attack that this or another round learned."""
    parameters = {"attack": {}, "training": {"name": name, "trained_on": trained_on, "steps": 10}}
    view = WORST_CASE if attack == WORST_CASE else "oblivious"
    return row(method=name, attack=attack, view=view, parameters=parameters, **changes)


def test_rounds_show_attack_success_and_recovery() -> None:
    given = [
        link("one", "", "one", asr=0.9, dsr=0.8, acc=0.97, seed=0),
        link("one", "", "two", asr=0.1, dsr=0.1),
        link("one", "", WORST_CASE, asr=1.0, robust_acc=0.3, acc=0.97),
        link("two", "one", "two", asr=0.7, dsr=0.5, acc=0.95),
        link("two", "one", WORST_CASE, asr=1.0, robust_acc=0.4, acc=0.95),
        link("other", "", "other", asr=0.6, dsr=0.6),  # no round follows it
        link("blind", "one", "one", asr=0.6, dsr=0.6),  # it learned no attack
    ]
    shares = [
        ["attack success", "90.0", "70.0"],
        ["recovery", "80.0", "50.0"],
        ["clean accuracy", "97.0", "95.0"],
        ["robust accuracy", "30.0", "40.0"],
    ]
    assert charts(given) == [shares]
    given[3] = replace(given[3], dsr=None)  # the attack of round two had no success
    assert charts(given) == [[line for line in shares if line[0] != "recovery"]]


def test_parts_without_content_are_left_out(tmp_path: Path) -> None:
    page, markdown = written(tmp_path, run_folder(tmp_path / "run", rows()))
    for title in ("Accuracy over distance", "Attack and recovery by round", "Pictures"):
        assert title not in page.text and title not in markdown


def test_entries_of_the_same_name_show_the_settings_that_differ() -> None:
    wide = {"attack": {**PGD, "loss": "dlr"}, "training": {"method": {"width": 128}, "steps": 10}}
    shown = report([row(), row(parameters=wide)])
    assert column(shown.headline, "defence") == ["ape_gan (width=64)", "ape_gan (width=128)"]
    attacks = [title for table in shown.rows for title in column(table, "attack")]
    assert attacks == ["5 x PGD-40", "5 x PGD-40 (loss=dlr)"]


def test_learned_attacks_are_distinguished_by_their_training() -> None:
    def copy(method: str, digest: str, queries: int) -> Row:
        training = {"steps": 60, "trained_on": method}
        about = {"sources": [{"sha256": digest}], "queries": queries, "training": training}
        return row(method=method or "bare", attack="substitute_b", parameters={"attack": about})

    tables = report([copy("", "aaa", 5), copy("dae", "bbb", 6)]).rows
    attacks = [title for table in tables for title in column(table, "attack")]
    assert attacks == ['substitute_b (trained_on="")', "substitute_b (trained_on=dae)"]


@pytest.mark.parametrize(
    ("name", "about", "title"),
    [
        ("auto_attack", {"steps": 100}, "AutoAttack"),
        ("apgd", {"loss": "ce", "steps": 100}, "APGD-CE"),
        ("apgd", {"targets": 9}, "APGD-T"),
        ("pgd", {"steps": 10, "restarts": 1}, "PGD-10"),
        ("pgd", {"training": {}}, "pgd"),
        ("my_attack", {"steps": 3}, "my_attack"),
        (WORST_CASE, {}, "worst case"),
    ],
)
def test_titles_of_attacks(name: str, about: dict[str, Any], title: str) -> None:
    assert words.attack(name, about) == title


@pytest.mark.parametrize(
    ("name", "eps", "title"),
    [
        ("Linf", 0.3, "L\u221e 0.3"),
        ("Linf", 8 / 255, "L\u221e 8/255"),
        ("Linf", 0.2, "L\u221e 0.2"),
        ("L2", 1.5, "L2 1.5"),
        ("Linf", 0.0314, "L\u221e 0.0314"),
    ],
)
def test_budgets_are_written_as_in_papers(name: str, eps: float, title: str) -> None:
    assert words.threat(name, eps) == title


def test_several_runs_are_shown_together(tmp_path: Path) -> None:
    first = run_folder(tmp_path / "a" / "run", rows(), eps=0.3)
    second = run_folder(tmp_path / "b" / "run", rows(seed=1), eps=0.3)
    page, markdown = written(tmp_path, first, second, first / "results.json")
    assert merge([first, second]) == rows() + rows(seed=1)
    assert results.read(tmp_path / "out" / "results.json") == merge([first, second])
    sheets = {f"{name}.ape_gan.pgd.eot(20).0a1b2c3d.png" for name in ("run", "run~2")}
    assert {path.name for path in (tmp_path / "out" / "pictures").iterdir()} == sheets
    assert "run run~2" in page.text and "Recipe of run~2" in markdown


def test_a_run_can_hold_its_own_report(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows(), eps=0.3)
    before = (run / "results.json").read_bytes()
    write_report([run], run)
    assert (run / "report.html").exists()
    assert (run / "results.json").read_bytes() == before


def test_a_report_on_several_runs_overwrites_no_run(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / name, rows(seed=i)) for i, name in enumerate("abc")]
    (runs[0] / "recipe.json").unlink()
    for folder in (runs[0], runs[2]):
        with pytest.raises(ValueError, match="give another folder"):
            write_report(runs[:2], folder)
        assert not (folder / "report.html").exists()


def test_names_from_users_are_escaped(tmp_path: Path) -> None:
    names = dict.fromkeys(("method", "data", "recipe", "device"), EVIL)
    names["classifier"] = f"{EVIL}|a"
    odd = {"attack": {"steps": EVIL}, "x": {EVIL: EVIL, "`": "```"}}
    found = {"check": EVIL, "severity": "low", "saw": {EVIL: 1.0}, "means": EVIL, "next": EVIL}
    given = [
        row(**names, attack=EVIL, view=EVIL, parameters=odd),
        row(**names, attack=WORST_CASE, findings=[found], parameters=odd),
        curved([0.9, 0.1], **names, view=EVIL),
    ]
    truth = [EVIL, '"><img src=x>']
    picture = {"truth": truth, "bare_adv": truth, "method": EVIL, "attack": EVIL, "view": EVIL}
    page, markdown = written(tmp_path, run_folder(tmp_path / "run", given, **picture))
    assert "script" not in [tag for tag, _ in page.tags]
    assert all(about["src"].startswith("data:") for tag, about in page.tags if tag == "img")
    assert page.text.count(EVIL) > 20
    outside = re.sub(r"^```json$.*?^```$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside and "<img" not in outside
    for block in outside.split("\n\n"):
        if block.startswith("| "):
            widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1


def test_the_page_needs_no_network_and_no_script(tmp_path: Path) -> None:
    page, _ = written(tmp_path, run_folder(tmp_path / "run", rows(), eps=0.3))
    for tag, about in page.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        for name in ("src", "href", "srcset", "action"):
            assert (about.get(name) or "#").startswith(("data:", "#"))
        assert not [name for name in about if name.startswith("on")]
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not [text for text in ("://", "@import", "url(") if text in html]
    policy = [about["content"] for _, about in page.tags if "http-equiv" in about]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    ids = [about["id"] for _, about in page.tags if "id" in about]
    assert len(ids) == len(set(ids))
    assert {about["href"] for tag, about in page.tags if tag == "a"} <= {f"#{i}" for i in ids}


def embedded(page: Page) -> list[Image.Image]:
    uris = [about["src"] or "" for tag, about in page.tags if tag == "img"]
    return [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]


def test_pictures_show_every_stage(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows(), eps=0.25, parameters=PGD)
    page, markdown = written(tmp_path, run)
    images = embedded(page)
    assert [image.size for image in images] == [(96, 96)] * 8
    clean, adversarial, perturbation, purified = (np.asarray(image) for image in images[1::2])
    assert np.unique(clean) == np.unique(purified) == [128]
    assert (adversarial[0, 0], adversarial[95, 95], adversarial[0, 95]) == (191, 64, 128)
    assert (perturbation[0, 0], perturbation[95, 95], perturbation[0, 95]) == (255, 0, 128)
    assert (adversarial[:24, :24] == 191).all()
    for line in (
        "| predicted, clean | \u2713 seven | \u2713 two |",
        "| undefended, adversarial | \u2713 seven | \u2717 five |",
        "| defended, purified | \u2713 seven | \u2717 one |",
    ):
        assert line in markdown
    assert "undefended \u2717wrong: five" in page.text
    assert "5 x PGD-40, eot(20), L\u221e 0.25" in page.text
    (target,) = re.findall(r"!\[.*?\]\((\S+)\)", markdown)
    sheet = Image.open(tmp_path / "out" / unquote(target))
    assert sheet.size == (2 * 96 + 4, 4 * 96 + 3 * 4)
    assert [sheet.getpixel((100, y)) for y in (0, 100, 200, 300)] == [128, 191, 255, 128]


def test_in_l2_the_largest_change_is_the_full_range(tmp_path: Path) -> None:
    page, _ = written(tmp_path, run_folder(tmp_path / "run", rows(), threat="L2", eps=4.0))
    perturbation = np.asarray(embedded(page)[5])
    assert (perturbation[0, 0], perturbation[95, 95]) == (255, 0)


def test_without_a_purifier_there_is_no_purified_image(tmp_path: Path) -> None:
    x = np.zeros((2, 3, 120, 100), dtype=np.float32)
    x[:, 0] = 1
    stages = {"x": x, "x_adv": x, "x_hat": x, "victim_adv": ["seven", "rejected"]}
    page, markdown = written(tmp_path, run_folder(tmp_path / "run", rows(), **stages, eps=0.3))
    images = embedded(page)
    assert [image.size for image in images] == [(100, 120)] * 6
    assert images[0].getpixel((0, 0)) == (255, 0, 0)
    assert images[4].getpixel((0, 0)) == (128, 128, 128)
    assert "purified" not in markdown.partition("## Pictures")[2].partition("## Provenance")[0]
    assert "| defended, adversarial | \u2713 seven | \u2713 rejected |" in markdown


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"x_hat": None}, "x_hat"),
        ({"x_adv": np.zeros((3, 1, 4, 4), np.float32)}, "x_adv is"),
        ({"x_adv": np.full((2, 1, 4, 4), np.nan, np.float32)}, "x_adv has pixels outside"),
        ({"x": np.zeros((2, 1, 4, 4), np.float64)}, "float64"),
        ({"x": np.zeros((4, 4), np.float32)}, "shape"),
        ({"truth": ["seven"]}, "truth has 1 names for 2 images"),
        ({"eps": 0.0}, "threat model"),
        ({"threat": "L7"}, "threat model"),
        ({"eps": "wide"}, "wide"),
    ],
)
def test_a_damaged_picture_is_named(tmp_path: Path, fault: dict[str, Any], reason: str) -> None:
    run = run_folder(tmp_path / "run", rows(), **fault)
    with pytest.raises(ValueError, match=r"0a1b2c3d\.safetensors is truncated or") as error:
        write_report([run], tmp_path / "out")
    assert reason in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows(), eps=0.3)
    (path,) = (run / "pictures").iterdir()
    whole = path.read_bytes()
    for length in (0, 5, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=r"0a1b2c3d\.safetensors is truncated or not a picture"
        ):
            write_report([run], tmp_path / "out")


def test_sources_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one run folder"):
        merge([])
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; give a run folder"):
        merge([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match=r"results\.json; `spearshield"):
        merge([tmp_path])
    run = run_folder(tmp_path / "run", [])
    with pytest.raises(ValueError, match=r"results\.json has no rows"):
        merge([run])
    (run / "results.json").write_text("[{")
    with pytest.raises(ValueError, match=r"results\.json is not JSON"):
        merge([run])
    run = run_folder(tmp_path / "run", [row(robust_acc=float("nan"))])
    with pytest.raises(ValueError, match=r"results\.json is not JSON: NaN is no number"):
        merge([run])
    run = run_folder(tmp_path / "run", rows())
    (run / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match=r"recipe\.json is not JSON"):
        merge([run])


def test_torch_is_never_imported(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows(), eps=0.3)
    code = (
        "import sys; from pathlib import Path; from spearshield.report import write_report; "
        "write_report([Path(sys.argv[1])], Path(sys.argv[2])); "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'spearshield.judging.evaluation')))"
    )
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", code, run, out], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (out / "report.html").exists()
