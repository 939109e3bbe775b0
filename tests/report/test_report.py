"""Reports: the numbers, findings and pictures that they show, and the sources that they refuse."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
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


@dataclass
class Shown:
    """A table as a reader sees it: the text of its cells by column."""

    kind: str
    groups: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    lines: list[dict[str, str]] = field(default_factory=list)


class Page(HTMLParser):
    """A page as a browser parses it: tags, text and tables; refuses unbalanced tags."""

    VOID = ("meta", "link", "img", "br", "wbr", "circle", "rect", "path")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[Shown] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append(Shown(dict(attrs).get("class") or ""))
        if tag == "tr":
            self.cells = []
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "small" and self.cells:
            self.cells[-1] += " / "

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag != "tr":
            return
        table = self.tables[-1]
        cells = [" ".join(cell.split()) for cell in self.cells]
        if "thead" in self.open:
            table.columns = cells
        elif len(cells) == 1:
            table.groups += cells
        else:
            table.lines.append(dict(zip(table.columns, cells, strict=True)))

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and ("td" in self.open or "th" in self.open):
            self.cells[-1] += data

    def of(self, kind: str) -> list[Shown]:
        return [table for table in self.tables if table.kind == kind]

    @property
    def headline(self) -> list[dict[str, str]]:
        return self.of("headline")[0].lines


def report(tmp_path: Path, *sources: Path | Sequence[Row]) -> tuple[Page, str]:
    """The page and the Markdown of run folders, or of the given rows."""
    folders = [
        source if isinstance(source, Path) else run_folder(tmp_path / f"run{i}", source)
        for i, source in enumerate(sources)
    ]
    write_report(folders, tmp_path / "out")
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    return Page(html), (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


WORST = "robust accuracy, worst case over attacks"
SETTING = "mnist, lenet, L\u221e 0.3, 1,000 test images"


def test_headline_shows_the_worst_case_next_to_an_unaware_attacker(tmp_path: Path) -> None:
    page, markdown = report(tmp_path, rows())
    assert page.of("headline")[0].groups == [SETTING]
    assert page.headline == [
        {
            "defence": "ape_gan",
            "clean accuracy": "98.0",
            WORST: "20.0 [18.0, 22.0]",
            "0 to 100 %": "",
            "attacks and views": "2",
            "seeds": "0",
            words.UNAWARE: "90.0 [88.0, 92.0] / FGSM, oblivious, 1,000 test images",
        }
    ]
    unaware = "**90.0** [88.0, 92.0] (FGSM, oblivious, 1,000 test images)"
    assert f"| ape_gan | 98.0 | **20.0** [18.0, 22.0] | 2 | 0 | {unaware} |" in markdown


def test_every_row_shows_all_measured_values(tmp_path: Path) -> None:
    page, markdown = report(tmp_path, rows())
    (table,) = page.of("rows")
    assert [(line["attack"], line["view"]) for line in table.lines] == [
        ("FGSM", "oblivious"),
        ("5 x PGD-40", "adaptive"),
        ("worst case", "all"),
    ]
    values = ["5 x PGD-40", "adaptive", "0", "1,000", "25.0 [22.0, 28.0]", "", "98.0", "99.0"]
    values += ["n/a", "0.432", "5.68", "0.3", "0.0123", "151", "[1]"]
    assert list(table.lines[1].values()) == values
    assert "| 5 x PGD-40 | adaptive | 0 | 1,000 | **25.0** [22.0, 28.0] | 98.0 |" in markdown


def test_the_source_of_every_row_names_its_command(tmp_path: Path) -> None:
    given = rows() + rows(seed=1, device="cuda")
    page, markdown = report(tmp_path, given)
    (table,) = page.of("provenance")
    versions = "python 3.12.1, spearshield 0.1.0, torch 2.13.0"
    told = [list(line.values()) for line in table.lines]
    recorded = getattr(given[0], "command", None) or "not recorded"
    assert told == [
        ["[1]", "run0", "demo", recorded, "0", "1,000", "3", "cpu", versions],
        ["[2]", "run0", "demo", recorded, "1", "1,000", "3", "cuda", versions],
    ]
    sources = [(line["seed"], line["source"]) for line in page.of("rows")[0].lines]
    assert set(sources) == {("0", "[1]"), ("1", "[2]")}
    assert {"#source-1", "#source-2"} <= {tag.get("href") for _, tag in page.tags}
    assert f"| \\[2\\] | run0 | demo | <code>{recorded}</code> | 1 | 1,000 | 3 | cuda |" in markdown


def test_seeds_are_averaged_with_their_range_and_the_widest_interval(tmp_path: Path) -> None:
    shares = {0: (0.20, (0.18, 0.22)), 1: (0.23, (0.21, 0.25)), 2: (0.29, (0.26, 0.31))}
    worst = {"attack": WORST_CASE, "view": WORST_CASE, "parameters": {}}
    seeded = [
        row(seed=seed, acc=0.97 + seed / 100, robust_acc=share, interval=interval, **worst)
        for seed, (share, interval) in shares.items()
    ]
    page, markdown = report(tmp_path, seeded)
    (line,) = page.headline
    assert line[WORST] == "24.0 [18.0, 31.0] / 20.0 to 29.0"
    assert line["clean accuracy"] == "98.0 / 97.0 to 99.0"
    assert line["seeds"] == "0, 1, 2"
    assert words.SEEDS in page.text
    assert "**24.0** [18.0, 31.0] (20.0 to 29.0)" in markdown
    assert [line["seed"] for line in page.of("rows")[0].lines] == ["0", "1", "2"]


def test_defences_are_grouped_by_setting(tmp_path: Path) -> None:
    given = [
        line
        for method in ("ape_gan", "dae")
        for eps in (0.3, 0.1)
        for line in rows(method=method, eps=eps)
    ]
    page, _ = report(tmp_path, given)
    assert page.of("headline")[0].groups == [SETTING, SETTING.replace("0.3", "0.1")]
    assert [line["defence"] for line in page.headline] == ["ape_gan", "dae", "ape_gan", "dae"]


def test_the_lowest_of_repeated_measurements_is_shown(tmp_path: Path) -> None:
    worst = {"attack": WORST_CASE, "view": WORST_CASE, "parameters": {}}
    page, _ = report(tmp_path, [row(robust_acc=share, **worst) for share in (0.5, 0.3, 0.4)])
    (line,) = page.headline
    assert line[WORST].startswith("30.0 ")
    assert line["seeds"] == "0"
    assert "measured more than once with seed 0; the lowest number is shown" in page.text


def test_a_missing_worst_case_is_reported_as_missing(tmp_path: Path) -> None:
    page, markdown = report(tmp_path, rows()[:2])
    lowest = "lowest row: 25.0 [22.0, 28.0], 5 x PGD-40, adaptive, 1,000 test images"
    assert page.headline[0][WORST] == f"not measured / {lowest}"
    assert "no worst-case row for seed 0" in page.text
    assert "not measured (lowest row: 25.0" in markdown
    assert "robust only" not in page.text


@pytest.mark.parametrize(("oblivious", "gap"), [(0.9, False), (0.901, True)])
def test_a_gap_of_more_than_twenty_points_is_a_finding(
    tmp_path: Path, oblivious: float, gap: bool
) -> None:
    first, second, worst = rows()
    given = [replace(first, robust_acc=oblivious), second, replace(worst, robust_acc=0.7)]
    page, markdown = report(tmp_path, given)
    shares = f"{100 * oblivious:.1f} % (worst case 70.0 %)"
    sentence = f"robust only against an attacker unaware of the defence: ape_gan {shares}."
    assert (sentence in page.text) == gap
    assert (sentence in markdown) == gap


def test_equal_findings_of_one_setting_are_joined(tmp_path: Path) -> None:
    given = []
    for method, robust in (("ape_gan", 0.1), ("dae", 0.2)):
        first, second, worst = rows(method=method)
        given += [first, second, replace(worst, robust_acc=robust, verdict="not trustworthy")]
    page, _ = report(tmp_path, given)
    gaps = "ape_gan 90.0 % (worst case 10.0 %), dae 90.0 % (worst case 20.0 %)."
    assert page.text.count("robust only") == 1 and gaps in page.text
    verdict = f"ape_gan, dae ({SETTING}, seed 0): {words.VERDICTS['not trustworthy']}"
    assert page.text.count(verdict) == 1


@pytest.mark.parametrize("view", ["oblivious", "transferred"])
def test_a_worst_case_without_an_adaptive_attacker_is_an_upper_bound(
    tmp_path: Path, view: str
) -> None:
    first, _, worst = rows()
    page, markdown = report(tmp_path, [replace(first, view=view), worst])
    sentence = "not tested with an adaptive attacker"
    assert sentence in page.text and sentence in markdown
    assert words.VIEWS[view] in page.text


def test_seeds_tested_with_different_attacks_are_reported(tmp_path: Path) -> None:
    page, _ = report(tmp_path, rows() + rows(seed=1)[1:])
    assert "the seeds were not all tested with the same attacks and views" in page.text


def test_numbers_over_different_images_are_not_mixed(tmp_path: Path) -> None:
    page, markdown = report(tmp_path, rows() + rows(images=250))
    assert page.of("headline")[0].groups == [SETTING, SETTING.replace("1,000", "250")]
    sentence = "differ in their number of images: 250 test images and 1,000 test images."
    assert sentence in page.text and sentence in markdown


def test_attacks_on_more_images_belong_to_the_worst_case_that_follows(tmp_path: Path) -> None:
    oblivious, adaptive, worst = rows()
    page, markdown = report(tmp_path, [replace(oblivious, images=10_000), adaptive, worst])
    (line,) = page.headline
    assert line[WORST].startswith("20.0")
    assert line[words.UNAWARE].endswith("FGSM, oblivious, 10,000 test images")
    assert [line["images"] for line in page.of("rows")[0].lines] == ["10,000", "1,000", "1,000"]
    assert "robust only" in markdown and "differ in their number" not in markdown


def test_checks_and_repeated_answers_are_findings(tmp_path: Path) -> None:
    *cells, worst = rows()
    found = {
        "check": "black_box",
        "severity": "high",
        "saw": {"images broken": 0.1234},
        "means": "Masked <gradients>.",
        "next": "look.",
    }
    repeated = {"one_shot": (0.9, 0.5), "worst_of": (0.7, 0.1)}
    worst = replace(worst, findings=[found], repeated=repeated, rejected=(0.03, 0.65))
    page, markdown = report(tmp_path, [*cells, worst])
    assert "black_box: images broken 0.123. Masked <gradients>. Next: look." in page.text
    assert "**high**" in markdown and "Masked &lt;gradients&gt;. Next: look." in markdown
    for shown in (page.text, markdown):
        assert "one shot: 90.0 % clean, 50.0 % under attack" in shown
        assert "worst of: 70.0 % clean, 10.0 % under attack" in shown
        assert "rejects 3.0 % of the clean and 65.0 % of the attacked images" in shown


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


def test_a_curve_counted_by_hand_from_the_outcomes_to_the_page(tmp_path: Path) -> None:
    # broken at 0.1; survives; broken just past the budget; misclassified without attack
    score = outcomes([1, 0, 1, 0], l2=[0.1, 0.05, 0.400009, 0.1], linf=[0.3, 0.01, 0.3, 0.01])
    curve = score.curve(L2(0.4))
    distances, shares = zip(*curve, strict=True)
    assert distances == pytest.approx([k * 0.02 for k in range(21)], abs=1e-12)
    assert shares == (0.75,) * 5 + (0.5,) * 15 + (0.25,)
    assert (shares[0], shares[-1]) == (score.acc, score.robust_acc)
    assert [share for _, share in score.curve(Linf(0.3))] == [0.75] * 20 + [0.25]
    about = ("recipe", "data", "split", "classifier", "method", "view", "seed", "device")
    told = {name: getattr(row(), name) for name in about}
    measured = results.row(score, **told, attack="fmn", threat="L2", eps=0.4, curve=curve)
    page, markdown = report(tmp_path, [measured])
    assert results.read(tmp_path / "run0" / "results.json") == [measured]
    (line,) = page.of("curves")[0].lines
    assert list(line) == ["key", "line", "at 0", "at 0.1", "at 0.2", "at 0.3", "at 0.4"]
    assert list(line.values())[1:] == [
        "ape_gan, FMN, adaptive",
        *["75.0", "50.0", "50.0", "50.0", "25.0"],
    ]
    assert "| ape_gan, FMN, adaptive | 75.0 | 50.0 | 50.0 | 50.0 | 25.0 |" in markdown
    assert "distance in L2, pixels in [0, 1]" in page.text


def curved(shares: Sequence[float], **changes: Any) -> Row:
    """A row of FMN with a curve through these shares at even distances."""
    eps = changes.get("eps", 0.3)
    points = [(eps * k / (len(shares) - 1), share) for k, share in enumerate(shares)]
    plain = {"attack": "fmn", "parameters": {"attack": {}}, "curve": points}
    return row(**{**plain, "acc": shares[0], "robust_acc": shares[-1], **changes})


def test_a_line_is_drawn_through_its_points(tmp_path: Path) -> None:
    page, _ = report(tmp_path, [curved([1.0, 0.75, 0.0])])
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


def test_only_curves_of_one_setting_share_a_chart(tmp_path: Path) -> None:
    shares = [0.9, 0.6, 0.3]
    given = [
        curved(shares),
        curved(shares, attack="deepfool"),
        curved(shares, method="dae", images=500),
        curved(shares, method="dae"),
        curved(shares, threat="L2"),
        curved([0.9, 0.3], method="vae"),
    ]
    page, _ = report(tmp_path, given)
    labels = [[line["line"].split(", ")[:2] for line in t.lines] for t in page.of("curves")]
    assert labels == [
        [["ape_gan", "FMN"], ["ape_gan", "DeepFool"], ["dae", "FMN"]],
        [["vae", "FMN"]],
        [["dae", "FMN"]],
        [["ape_gan", "FMN"]],
    ]


def test_many_lines_are_spread_over_charts(tmp_path: Path) -> None:
    given = [
        curved([0.9, 0.6, 0.3], method=f"m{i}", attack=f"attack{j}", view=view)
        for i in range(7)
        for j in range(3)
        for view in ("adaptive", "oblivious")
    ]
    page, _ = report(tmp_path, given)
    assert [len(table.lines) for table in page.of("curves")] == [24, 12, 4, 2]
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    line = re.compile(r'stroke-dasharray="(.*?)".*?class="marks" d="M[\d.]+ [\d.]+([a-z].*?z)')
    for chart in re.findall(r'<svg class="chart".*?</svg>', html, re.DOTALL):
        styles = line.findall(chart)
        assert len(styles) == len(set(styles)) >= 2


def test_a_curve_is_the_mean_over_seeds(tmp_path: Path) -> None:
    given = [curved([0.9, 0.6, 0.2]), curved([0.9, 0.7, 0.3]), curved([0.7, 0.2, 0.0], seed=1)]
    _, markdown = report(tmp_path, given)
    assert "| ape_gan, FMN, adaptive, mean of 2 seeds | 80.0 | 40.0 | 10.0 |" in markdown


def link(name: str, trained_on: str, attack: str, **changes: Any) -> Row:
    """A row of one round under the attack that this or another round learned."""
    parameters = {"attack": {}, "training": {"name": name, "trained_on": trained_on, "steps": 10}}
    view = WORST_CASE if attack == WORST_CASE else "oblivious"
    return row(method=name, attack=attack, view=view, parameters=parameters, **changes)


def test_rounds_show_attack_success_and_recovery(tmp_path: Path) -> None:
    given = [
        link("one", "", "one", asr=0.9, dsr=0.8, acc=0.97, seed=0),
        link("one", "", "two", asr=0.1, dsr=0.1),
        link("one", "", WORST_CASE, asr=1.0, robust_acc=0.3, acc=0.97),
        link("two", "one", "two", asr=0.7, dsr=None, acc=0.95),
        link("two", "one", WORST_CASE, asr=1.0, robust_acc=0.4, acc=0.95),
        link("other", "", "other", asr=0.6, dsr=0.6),  # no round follows it
        link("blind", "one", "one", asr=0.6, dsr=0.6),  # it learned no attack
    ]
    page, markdown = report(tmp_path, given)
    (table,) = page.of("rounds")
    assert [list(line.values())[1:] for line in table.lines] == [
        ["attack success", "90.0", "70.0"],
        ["clean accuracy", "97.0", "95.0"],
        ["robust accuracy", "30.0", "40.0"],
    ]
    assert "| attack success | 90.0 | 70.0 |" in markdown
    assert "recovery" not in [line["line"] for line in table.lines]


def test_parts_without_content_are_left_out(tmp_path: Path) -> None:
    page, markdown = report(tmp_path, rows())
    for title in ("Accuracy over distance", "Attack and recovery by round", "Pictures"):
        assert title not in page.text and title not in markdown


def test_entries_of_the_same_name_show_the_settings_that_differ(tmp_path: Path) -> None:
    wide = {"attack": {**PGD, "loss": "dlr"}, "training": {"method": {"width": 128}, "steps": 10}}
    page, _ = report(tmp_path, [row(), row(parameters=wide)])
    assert [line["defence"] for line in page.headline] == [
        "ape_gan (width=64)",
        "ape_gan (width=128)",
    ]
    attacks = [line["attack"] for table in page.of("rows") for line in table.lines]
    assert attacks == ["5 x PGD-40", "5 x PGD-40 (loss=dlr)"]


def test_learned_attacks_are_distinguished_by_their_training(tmp_path: Path) -> None:
    copies = [
        row(
            method=name or "bare",
            attack="substitute_b",
            parameters={
                "attack": {
                    "sources": [{"type": "Sequential", "sha256": 8 * digit}],
                    "queries": queries,
                    "training": {"steps": 60, "trained_on": name},
                },
                "training": {"method": {"width": 64}, "steps": 10},
            },
        )
        for name, digit, queries in (("", "a", 5), ("dae", "b", 6))
    ]
    page, _ = report(tmp_path, copies)
    attacks = [line["attack"] for table in page.of("rows") for line in table.lines]
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
    page, markdown = report(tmp_path, first, second, first / "results.json")
    assert [line["seeds"] for line in page.headline] == ["0, 1"]
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
    page, markdown = report(tmp_path, run_folder(tmp_path / "run", given, **picture))
    assert "script" not in [tag for tag, _ in page.tags]
    assert all(about["src"].startswith("data:") for tag, about in page.tags if tag == "img")
    assert page.headline[0]["defence"].startswith(EVIL)
    outside = re.sub(r"^```json$.*?^```$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside and "<img" not in outside
    for block in outside.split("\n\n"):
        if block.startswith("| "):
            widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1


def test_the_page_needs_no_network_and_no_script(tmp_path: Path) -> None:
    page, _ = report(tmp_path, run_folder(tmp_path / "run", rows(), eps=0.3))
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
    page, markdown = report(
        tmp_path, run_folder(tmp_path / "run", rows(), eps=0.25, parameters=PGD)
    )
    images = embedded(page)
    assert [image.size for image in images] == [(96, 96)] * 8
    clean, adversarial, perturbation, purified = (np.asarray(image) for image in images[1::2])
    assert np.unique(clean) == np.unique(purified) == [128]
    assert (adversarial[0, 0], adversarial[95, 95], adversarial[0, 95]) == (191, 64, 128)
    assert (perturbation[0, 0], perturbation[95, 95], perturbation[0, 95]) == (255, 0, 128)
    assert (adversarial[:24, :24] == 191).all()
    (table,) = page.of("pictures")
    right, wrong = "\u2713right:", "\u2717wrong:"
    assert [list(line.values()) for line in table.lines] == [
        ["clean", f"predicted {right} seven", f"predicted {right} two"],
        ["adversarial", f"undefended {right} seven", f"undefended {wrong} five"],
        ["perturbation, times 2", "", ""],
        ["purified", f"defended {right} seven", f"defended {wrong} one"],
    ]
    assert "| defended, purified | \u2713 seven | \u2717 one |" in markdown
    assert "5 x PGD-40, eot(20), L\u221e 0.25" in page.text
    (target,) = re.findall(r"!\[.*?\]\((\S+)\)", markdown)
    sheet = Image.open(tmp_path / "out" / unquote(target))
    assert sheet.size == (2 * 96 + 4, 4 * 96 + 3 * 4)
    assert [sheet.getpixel((100, y)) for y in (0, 100, 200, 300)] == [128, 191, 255, 128]


def test_in_l2_the_largest_change_is_the_full_range(tmp_path: Path) -> None:
    page, _ = report(tmp_path, run_folder(tmp_path / "run", rows(), threat="L2", eps=4.0))
    perturbation = np.asarray(embedded(page)[5])
    assert (perturbation[0, 0], perturbation[95, 95]) == (255, 0)


def test_without_a_purifier_there_is_no_purified_image(tmp_path: Path) -> None:
    x = np.zeros((2, 3, 120, 100), dtype=np.float32)
    x[:, 0] = 1
    stages = {"x": x, "x_adv": x, "x_hat": x}
    page, markdown = report(tmp_path, run_folder(tmp_path / "run", rows(), **stages, eps=0.3))
    images = embedded(page)
    assert [image.size for image in images] == [(100, 120)] * 6
    assert images[0].getpixel((0, 0)) == (255, 0, 0)
    assert images[4].getpixel((0, 0)) == (128, 128, 128)
    (table,) = page.of("pictures")
    assert "purified" not in [line["truth"] for line in table.lines]
    assert "| defended, adversarial | \u2713 seven | \u2717 one |" in markdown


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
