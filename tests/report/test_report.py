"""The report: what it shows of given rows and pictures, and what it refuses."""

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
    """One defence: an oblivious row, an adaptive one and their worst case."""
    oblivious = {"attack": "fgsm", "view": "oblivious", "robust_acc": 0.9, "interval": (0.88, 0.92)}
    worst = {"attack": WORST_CASE, "view": WORST_CASE, "robust_acc": 0.2, "interval": (0.18, 0.22)}
    bare = {"training": row().parameters["training"]}
    return [
        row(**{**oblivious, "parameters": {**bare, "attack": {}}, **changes}),
        row(**changes),
        row(**{**worst, "parameters": {**bare, "cells": 2}, **changes}),
    ]


def run_folder(folder: Path, rows: Sequence[Row], **picture: Any) -> Path:
    """A run folder with these rows and, if anything is said of it, a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps([asdict(row) for row in rows]))
    (folder / "recipe.json").write_text(json.dumps({"name": "demo", "recipe": {"seed": 0}}))
    if picture:
        draw(folder / "pictures" / "ape_gan.pgd.eot(20).0a1b2c3d.safetensors", **picture)
    return folder


def draw(path: Path, **changes: Any) -> None:
    """Two 4 x 4 images, the second attacked at one pixel upwards and at another downwards."""
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
class Table:
    kind: str
    caption: str = ""
    groups: list[str] = field(default_factory=list)
    lines: list[dict[str, str]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """What a browser would find: tables as text, and tags; refuses unbalanced ones."""

    VOID = ("meta", "link", "img", "br", "wbr", "circle", "rect", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[Table] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append(Table(dict(attrs).get("class") or ""))
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
        if "thead" in self.open:
            table.columns = self.cells
        elif len(self.cells) == 1:
            table.groups += self.cells
        else:
            table.lines.append(dict(zip(table.columns, self.cells, strict=True)))

    def handle_data(self, data: str) -> None:
        self.text += data
        if "caption" in self.open:
            self.tables[-1].caption += data
        elif self.open and ("td" in self.open or "th" in self.open):
            self.cells[-1] += data

    def of(self, kind: str) -> list[Table]:
        return [table for table in self.tables if table.kind == kind]


def report(tmp_path: Path, *sources: Path) -> tuple[Page, str]:
    out = tmp_path / "out"
    write_report(list(sources), out)
    html = (out / "report.html").read_text(encoding="utf-8")
    return Page(html), (out / "report.md").read_text(encoding="utf-8")


WORST = "robust accuracy, worst case over all attacks and views"


def test_headline_is_the_worst_case_with_the_ignorant_attacker_beside_it(tmp_path: Path) -> None:
    page, text = report(tmp_path, run_folder(tmp_path / "run", rows()))
    (table,) = page.of("headline")
    assert table.groups == ["mnist, lenet, L\u221e 0.3, 1,000 test images"]
    (line,) = table.lines
    assert line["defence"] == "ape_gan"
    assert line["clean accuracy"] == "98.0"
    assert line[WORST] == "20.0 [18.0, 22.0]"
    assert line["attacks and views"] == "2"
    assert line["seeds"] == "1 / (0)"
    assert line[words.IGNORANT] == "90.0 [88.0, 92.0] / FGSM, oblivious, 1,000 test images"
    cells = next(line for line in text.splitlines() if line.startswith("| mnist")).split(" | ")
    assert cells[2:] == [
        "L\u221e 0.3",
        "ape_gan",
        "98.0",
        "**20.0 [18.0, 22.0]**",
        "2",
        "1,000 test images",
        "0",
        "90.0 [88.0, 92.0] (FGSM, oblivious, 1,000 test images) |",
    ]


def test_every_row_is_shown_with_all_that_was_measured(tmp_path: Path) -> None:
    page, text = report(tmp_path, run_folder(tmp_path / "run", rows()))
    (table,) = page.of("rows")
    assert table.caption == "ape_gan: mnist, lenet, L\u221e 0.3, 1,000 test images"
    assert [(line["attack"], line["view"]) for line in table.lines] == [
        ("FGSM", "oblivious"),
        ("PGD-40 x5", "adaptive"),
        ("worst case", "all"),
    ]
    line = table.lines[1]
    assert line.pop("from 0 to 100") == ""
    expected = ["PGD-40 x5", "adaptive", "0", "1,000", "25.0 [22.0, 28.0]", "98.0", "99.0", "n/a"]
    expected += ["0.432", "5.68", "0.3", "0.0123", "151"]
    assert list(line.values()) == expected
    assert "| PGD-40 x5 | adaptive | 0 | 1,000 | **25.0** [22.0, 28.0] | 98.0 | 99.0 |" in text


def test_a_robust_accuracy_is_never_alone(tmp_path: Path) -> None:
    page, text = report(tmp_path, run_folder(tmp_path / "run", rows() + rows(method="dae")))
    for table in page.of("rows"):
        assert "L\u221e 0.3" in table.caption
        assert "1,000 test images" in table.caption
        for line in table.lines:
            assert line["view"]
            assert re.fullmatch(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", line["robust"])
    for line in page.of("headline")[0].lines:
        assert re.search(r"\[\d+\.\d, \d+\.\d\]", line[WORST])
    for line in text.splitlines():
        if line.startswith("| mnist"):
            assert "L\u221e 0.3" in line
            assert "1,000 test images" in line


def test_seeds_are_averaged_with_their_range_and_the_widest_interval(tmp_path: Path) -> None:
    shares = {0: (0.20, (0.18, 0.22)), 1: (0.23, (0.21, 0.25)), 2: (0.29, (0.26, 0.31))}
    worst = {"attack": WORST_CASE, "view": WORST_CASE, "parameters": {}}
    seeded = [
        row(seed=seed, acc=0.97 + seed / 100, robust_acc=share, interval=interval, **worst)
        for seed, (share, interval) in shares.items()
    ]
    page, text = report(tmp_path, run_folder(tmp_path / "run", seeded))
    (line,) = page.of("headline")[0].lines
    assert line[WORST] == "24.0 [18.0, 31.0] / 20.0 to 29.0"
    assert line["clean accuracy"] == "98.0 / 97.0 to 99.0"
    assert line["seeds"] == "3 / (0, 1, 2)"
    assert words.SEEDS in page.text
    assert "**24.0 (20.0 to 29.0) [18.0, 31.0]**" in text
    assert [line["seed"] for line in page.of("rows")[0].lines] == ["0", "1", "2"]


def test_defences_of_one_setting_stand_together(tmp_path: Path) -> None:
    given = [
        line
        for method in ("ape_gan", "dae")
        for eps in (0.3, 0.1)
        for line in rows(method=method, eps=eps)
    ]
    page, text = report(tmp_path, run_folder(tmp_path / "run", given))
    told = [line[:40] for line in text.splitlines() if line.startswith("| mnist")]
    assert [line.split(" | ")[2:4] for line in told] == [
        ["L\u221e 0.3", "ape_gan"],
        ["L\u221e 0.3", "dae"],
        ["L\u221e 0.1", "ape_gan"],
        ["L\u221e 0.1", "dae"],
    ]
    captions = [table.caption for table in page.of("rows")]
    assert ["L\u221e 0.3" in caption for caption in captions] == [True, True, False, False]


def test_of_a_seed_measured_twice_the_lowest_counts(tmp_path: Path) -> None:
    worst = {"attack": WORST_CASE, "view": WORST_CASE, "parameters": {}}
    twice = [row(robust_acc=share, **worst) for share in (0.5, 0.3, 0.4)]
    page, _ = report(tmp_path, run_folder(tmp_path / "run", twice))
    (line,) = page.of("headline")[0].lines
    assert line[WORST].startswith("30.0 ")
    assert line["seeds"] == "1 / (0)"
    assert "measured more than once with seed 0; the lowest counts" in page.text


def test_without_a_worst_case_none_is_made_up(tmp_path: Path) -> None:
    page, text = report(tmp_path, run_folder(tmp_path / "run", rows()[:2]))
    (line,) = page.of("headline")[0].lines
    said = "lowest row: 25.0 [22.0, 28.0], PGD-40 x5, adaptive, 1,000 test images"
    assert line[WORST] == f"not measured / {said}"
    assert "has no worst-case row for seed 0" in page.text
    lowest = "25.0 [22.0, 28.0] (PGD-40 x5, adaptive, 1,000 test images)"
    assert f"not measured; lowest row {lowest}" in text
    assert "Gap." not in page.text


@pytest.mark.parametrize(("oblivious", "alarm"), [(0.9, False), (0.901, True)])
def test_gap_alarm_beyond_twenty_points(tmp_path: Path, oblivious: float, alarm: bool) -> None:
    first, second, worst = rows()
    given = [replace(first, robust_acc=oblivious), second, replace(worst, robust_acc=0.7)]
    page, text = report(tmp_path, run_folder(tmp_path / "run", given))
    shares = f"{100 * oblivious:.1f} % (worst case 70.0 %)"
    sentence = f"robust only while the attacker does not know of the defence: ape_gan {shares}."
    assert (sentence in page.text) == alarm
    assert (sentence in text) == alarm


def test_what_is_true_of_several_defences_in_one_setting_is_said_once(tmp_path: Path) -> None:
    given = []
    for method, robust in (("ape_gan", 0.1), ("dae", 0.2)):
        first, second, worst = rows(method=method)
        given += [first, second, replace(worst, robust_acc=robust, verdict="not trustworthy")]
    page, _ = report(tmp_path, run_folder(tmp_path / "run", given))
    assert page.text.count("Gap.") == page.text.count("the number cannot be trusted") == 1
    gaps = "ape_gan 90.0 % (worst case 10.0 %), dae 90.0 % (worst case 20.0 %)."
    assert gaps in page.text
    assert "ape_gan, dae (mnist, lenet, L\u221e 0.3, 1,000 test images, seed 0): the" in page.text


def test_a_worst_case_over_ignorant_attackers_only_is_said_to_be_one(tmp_path: Path) -> None:
    first, _, worst = rows()
    page, _ = report(tmp_path, run_folder(tmp_path / "run", [first, worst]))
    assert "met no attacker who knows it" in page.text


def test_attacks_from_elsewhere_know_no_defence(tmp_path: Path) -> None:
    first, _, worst = rows()
    page, text = report(
        tmp_path, run_folder(tmp_path / "run", [replace(first, view="transferred"), worst])
    )
    assert "met no attacker who knows it" in page.text
    assert words.VIEWS["transferred"] in " ".join(text.split())


def test_seeds_that_met_other_attacks_are_named(tmp_path: Path) -> None:
    page, _ = report(tmp_path, run_folder(tmp_path / "run", rows() + rows(seed=1)[1:]))
    assert "Not every seed of ape_gan" in page.text


def test_numbers_over_other_images_stay_apart_and_are_said_to_be(tmp_path: Path) -> None:
    page, text = report(tmp_path, run_folder(tmp_path / "run", rows() + rows(images=250)))
    (table,) = page.of("headline")
    assert [group.rpartition(", ")[2] for group in table.groups] == [
        "1,000 test images",
        "250 test images",
    ]
    said = "Not all rows are over the same images, but over 250 test images and 1,000 test images."
    assert said in page.text
    assert said in text


def test_attacks_on_more_images_stay_with_the_worst_case_that_follows_them(tmp_path: Path) -> None:
    oblivious, adaptive, worst = rows()
    mixed = [replace(oblivious, images=10_000), adaptive, worst]
    page, text = report(tmp_path, run_folder(tmp_path / "run", mixed))
    (line,) = page.of("headline")[0].lines
    assert line[WORST].startswith("20.0")
    assert line[words.IGNORANT] == "90.0 [88.0, 92.0] / FGSM, oblivious, 10,000 test images"
    assert [line["images"] for line in page.of("rows")[0].lines] == ["10,000", "1,000", "1,000"]
    assert "robust only while the attacker does not know of the defence" in text
    assert "Not all rows" not in text


def test_what_was_found_stands_beside_the_headline(tmp_path: Path) -> None:
    found = {
        "check": "black_box",
        "severity": "high",
        "saw": {"images broken": 0.1234},
        "means": "Masked <gradients>.",
        "next": "look.",
    }
    *cells, worst = rows()
    doubted = replace(worst, verdict="not trustworthy", findings=[found])
    page, text = report(tmp_path, run_folder(tmp_path / "run", [*cells, doubted]))
    said = "black_box: images broken 0.123. Masked <gradients>. Next: look."
    assert said in page.text
    assert "the number cannot be trusted; this says nothing yet about the defence" in page.text
    assert "**high**" in text and "Masked &lt;gradients&gt;. Next: look." in text
    plain, _ = report(tmp_path / "plain", run_folder(tmp_path / "plain" / "run", rows()))
    assert "Can the numbers be trusted?" not in plain.text


def test_the_answers_of_a_random_defence_are_shown_with_their_control(tmp_path: Path) -> None:
    *cells, worst = rows()
    repeated = {"one_shot": (0.9, 0.5), "worst_of": (0.7, 0.1)}
    worst = replace(worst, rejected=(0.03, 0.65))
    page, text = report(
        tmp_path, run_folder(tmp_path / "run", [*cells, replace(worst, repeated=repeated)])
    )
    for said in (page.text, text):
        assert "one shot 90.0 % clean, 50.0 % attacked" in said
        assert "worst of 70.0 % clean, 10.0 % attacked" in said
        assert "rejects 3.0 % of the clean images, 65.0 % of the attacked ones" in said


def outcomes(robust_adv: Sequence[int], l2: Sequence[float], linf: Sequence[float]) -> Score:
    """A score over images of class 0, the last of which is wrong from the start."""
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
    #                broken at 0.1, stands, broken just past the budget, wrong before the attack
    score = outcomes([1, 0, 1, 0], l2=[0.1, 0.05, 0.400009, 0.1], linf=[0.3, 0.01, 0.3, 0.01])
    curve = score.curve(L2(0.4))
    distances, shares = zip(*curve, strict=True)
    assert distances == pytest.approx([k * 0.02 for k in range(21)], abs=1e-12)
    assert shares == (0.75,) * 5 + (0.5,) * 15 + (0.25,)
    assert (shares[0], shares[-1]) == (score.acc, score.robust_acc)
    assert [share for _, share in score.curve(Linf(0.3))] == [0.75] * 20 + [0.25]
    about = ("recipe", "data", "split", "classifier", "method", "view", "seed", "device")
    told = {name: getattr(row(), name) for name in about} | {"parameters": {}}
    measured = results.row(score, **told, attack="fmn", threat="L2", eps=0.4, curve=curve)
    run = run_folder(tmp_path / "run", [measured])
    assert results.read(run / "results.json") == [measured]
    page, text = report(tmp_path, run)
    (line,) = page.of("curve")[0].lines
    assert list(line.values()) == [
        " ape_gan, FMN, adaptive",
        "75.0",
        "50.0",
        "50.0",
        "50.0",
        "25.0",
    ]
    assert list(line)[1:] == ["at 0", "at 0.1", "at 0.2", "at 0.3", "at 0.4"]
    assert "| ape_gan, FMN, adaptive | 75.0 | 50.0 | 50.0 | 50.0 | 25.0 |" in text
    assert "distance in L2, pixels in [0, 1]" in page.text


def curved(shares: Sequence[float], **changes: Any) -> Row:
    """A row of FMN with a curve through these shares, evenly up to its budget."""
    eps = changes.get("eps", 0.3)
    points = [(eps * k / (len(shares) - 1), share) for k, share in enumerate(shares)]
    plain = {"attack": "fmn", "parameters": {"attack": {}}, "curve": points}
    return row(**{**plain, "acc": shares[0], "robust_acc": shares[-1], **changes})


def test_a_line_goes_through_its_points(tmp_path: Path) -> None:
    page, _ = report(tmp_path, run_folder(tmp_path / "run", [curved([1.0, 0.75, 0.0])]))
    drawn, grid, first = (
        next(tag["d"] for name, tag in page.tags if (name, tag.get("class")) == ("path", kind))
        for kind in ("curve", "grid", "marks")
    )
    assert drawn == "M52.0 12.0L340.0 82.0L628.0 292.0"
    assert grid.startswith("M52 292.0H628M52 222.0H628") and grid.endswith("M52 12.0H628")
    assert first.startswith("M52.0 12.0m-4 0a")
    assert [line["at 0.15"] for line in page.of("curve")[0].lines] == ["75.0"]


def test_a_picture_says_in_words_what_it_shows(tmp_path: Path) -> None:
    page, text = report(
        tmp_path, run_folder(tmp_path / "run", [curved([0.9, 0.5, 0.1], method=EVIL)])
    )
    tags = {tag.get("id"): (name, tag) for name, tag in page.tags}
    (picture,) = (tag for name, tag in page.tags if tag.get("class") == "chart")
    assert picture["role"] == "img"
    assert tags[picture["aria-labelledby"]][0] == "title"
    assert tags[picture["aria-describedby"]][0] == "desc"
    assert f"{EVIL}, FMN, adaptive: 90.0 % at 0, 50.0 % at 0.15, 10.0 % at 0.3." in page.text
    assert ("a", {"href": "#curves-part"}) in page.tags
    assert "script" not in [name for name, _ in page.tags] and "<script" not in text


def test_without_curves_there_is_no_part_for_them(tmp_path: Path) -> None:
    page, text = report(tmp_path, run_folder(tmp_path / "run", rows()))
    assert page.of("curve") == []
    for said in (page.text, text):
        assert "over distance" not in said


def test_only_what_can_be_compared_shares_a_picture(tmp_path: Path) -> None:
    shares = [0.9, 0.6, 0.3]
    given = [
        curved(shares),
        curved(shares, attack="deepfool"),
        curved(shares, method="dae", images=500),
        curved(shares, method="dae"),
        curved(shares, threat="L2"),
        curved([0.9, 0.3], method="vae"),
    ]
    page, text = report(tmp_path, run_folder(tmp_path / "run", given))
    labels = [[line["line"].strip().split(",")[:2] for line in t.lines] for t in page.of("curve")]
    assert labels == [
        [["ape_gan", " FMN"], ["ape_gan", " Deepfool"], ["dae", " FMN"]],
        [["vae", " FMN"]],
        [["dae", " FMN"]],
        [["ape_gan", " FMN"]],
    ]
    assert text.count("robust accuracy within a distance in L\u221e") == 3
    assert text.count("robust accuracy within a distance in L2") == 1


LINE = re.compile(r'stroke-dasharray="(.*?)".*?class="marks" d="M[\d.]+ [\d.]+([a-z].*?z)')
"""Dashes and mark of a line."""


def test_lines_are_told_apart_without_colour(tmp_path: Path) -> None:
    given = [
        curved([0.9, 0.6, 0.3], method=f"m{i}", attack=f"attack{j}", view=view)
        for i in range(7)
        for j in range(3)
        for view in ("adaptive", "oblivious")
    ]
    page, text = report(tmp_path, run_folder(tmp_path / "run", given))
    assert [len(table.lines) for table in page.of("curve")] == [24, 12, 4, 2]
    for part in range(1, 5):
        assert text.count(f"1,000 test images, part {part} of 4") == 1
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    charts = re.findall(r'<svg class="chart".*?</svg>', html)
    for chart, count in zip(charts, [24, 12, 4, 2], strict=True):
        lines = LINE.findall(chart)
        assert len(lines) == len(set(lines)) == count
    keys = re.findall(r'<svg class="line-key".*?dasharray="(.*?)".*?d="M21 6(.*?)"', html)
    drawn = [pair for chart in charts for pair in LINE.findall(chart)]
    assert keys == drawn


def test_a_curve_is_the_mean_over_seeds_and_of_one_measured_twice_the_lowest(
    tmp_path: Path,
) -> None:
    given = [
        curved([0.9, 0.6, 0.2]),
        curved([0.9, 0.7, 0.3]),
        curved([0.7, 0.2, 0.0], seed=1),
    ]
    page, text = report(tmp_path, run_folder(tmp_path / "run", given))
    (line,) = page.of("curve")[0].lines
    assert list(line.values()) == [
        " ape_gan, FMN, adaptive, mean of 2 seeds",
        "80.0",
        "40.0",
        "10.0",
    ]
    assert "| ape_gan, FMN, adaptive, mean of 2 seeds | 80.0 | 40.0 | 10.0 |" in text


@pytest.mark.parametrize(
    "fault", [[(0.0, 1.2), (0.3, 0.1)], [(0.0, 0.9)], [(-1.0, 1.0), (0.0, 0.0)]]
)
def test_a_curve_that_is_none_is_refused(tmp_path: Path, fault: list[tuple[float, float]]) -> None:
    run = run_folder(tmp_path / "run", [row(curve=fault)])
    with pytest.raises(ValueError, match=r"results\.json: \$\[0\]\.curve"):
        merge([run])


def test_namesakes_are_told_apart_by_what_they_differ_in(tmp_path: Path) -> None:
    wide = {
        "attack": {**PGD, "loss": "margin"},
        "training": {"method": {"width": 128}, "steps": 10},
    }
    page, _ = report(tmp_path, run_folder(tmp_path / "run", [row(), row(parameters=wide)]))
    labels = [line["defence"] for line in page.of("headline")[0].lines]
    assert labels == ["ape_gan (width=64)", "ape_gan (width=128)"]
    attacks = [line["attack"] for table in page.of("rows") for line in table.lines]
    assert attacks == ["PGD-40 x5", "PGD-40 x5 (loss=margin)"]


def test_attacks_that_trainings_left_behind_are_told_apart_by_those(tmp_path: Path) -> None:
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
    page, _ = report(tmp_path, run_folder(tmp_path / "run", copies))
    attacks = [line["attack"] for table in page.of("rows") for line in table.lines]
    assert attacks == ['substitute_b (trained_on="")', "substitute_b (trained_on=dae)"]


def test_several_runs_side_by_side(tmp_path: Path) -> None:
    first = run_folder(tmp_path / "a" / "run", rows(), eps=0.3)
    second = run_folder(tmp_path / "b" / "run", rows(seed=1), eps=0.3)
    page, text = report(tmp_path, first, second, first / "results.json")
    (line,) = page.of("headline")[0].lines
    assert line["seeds"] == "2 / (0, 1)"
    assert merge([first, second]) == rows() + rows(seed=1)
    assert results.read(tmp_path / "out" / "results.json") == merge([first, second])
    names = ("run", "run~2")
    sheets = {f"{name}.ape_gan.pgd.eot(20).0a1b2c3d.png" for name in names}
    assert {path.name for path in (tmp_path / "out" / "pictures").iterdir()} == sheets
    for name in names:
        assert f"run {name}" in page.text
        assert f"Recipe of {name}" in text


def test_one_run_reports_in_its_own_folder_and_its_rows_stay(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows(), eps=0.3)
    before = (run / "results.json").read_bytes()
    write_report([run], run)
    first = (run / "report.html").read_bytes()
    write_report([run], run)
    assert (run / "report.html").read_bytes() == first
    assert (run / "results.json").read_bytes() == before


def test_a_joint_report_overwrites_no_run(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / name, rows(seed=i)) for i, name in enumerate("abc")]
    (runs[0] / "recipe.json").unlink()
    for folder in (runs[0], runs[2]):
        with pytest.raises(ValueError, match="a folder of its own"):
            write_report(runs[:2], folder)
        assert not (folder / "report.html").exists()


def test_names_from_users_are_shown_and_do_nothing(tmp_path: Path) -> None:
    names = {
        "method": EVIL,
        "data": EVIL,
        "classifier": f"{EVIL}|a",
        "recipe": EVIL,
        "device": EVIL,
    }
    odd = {"attack": {"steps": EVIL}, "x": {EVIL: EVIL, "`": "```"}}
    given = [row(**names, attack=EVIL, view=EVIL, parameters=odd), row(**names, parameters=odd)]
    truth = [EVIL, '"><img src=x>']
    picture = {"truth": truth, "bare_adv": truth, "method": EVIL, "attack": EVIL, "view": EVIL}
    page, text = report(tmp_path, run_folder(tmp_path / "run", given, **picture))
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert all(about["src"].startswith("data:") for tag, about in page.tags if tag == "img")
    assert page.of("headline")[0].lines[0]["defence"] == EVIL
    outside = re.sub(r"^```json$.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside
    assert "<img" not in outside
    tables = [block for block in outside.split("\n\n") if block.startswith("| ")]
    for table in tables:
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_page_needs_no_network_and_no_script(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows(), eps=0.3)
    page, _ = report(tmp_path, run)
    for tag, about in page.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        for name in ("src", "href", "srcset", "action"):
            assert (about.get(name) or "#").startswith(("data:", "#"))
        assert not [name for name in about if name.startswith("on")]
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "://" not in html
    assert "@import" not in html
    assert "url(" not in html
    targets = {about["href"] for tag, about in page.tags if tag == "a"}
    assert targets <= {f"#{about['id']}" for _, about in page.tags if "id" in about}


def test_tables_can_be_read_aloud(tmp_path: Path) -> None:
    page, _ = report(tmp_path, run_folder(tmp_path / "run", rows(), eps=0.3))
    assert {table.kind for table in page.tables} == {"headline", "rows", "pictures", "origins"}
    assert all(table.caption for table in page.tables)
    assert all("scope" in about for tag, about in page.tags if tag == "th")
    assert all(about.get("alt") for tag, about in page.tags if tag == "img")
    assert len({about["id"] for _, about in page.tags if "id" in about}) == sum(
        "id" in about for _, about in page.tags
    )


def embedded(page: Page) -> list[Image.Image]:
    uris = [about["src"] or "" for tag, about in page.tags if tag == "img"]
    return [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]


def test_pictures_show_every_stage(tmp_path: Path) -> None:
    page, _ = report(tmp_path, run_folder(tmp_path / "run", rows(), eps=0.25))
    images = embedded(page)
    assert [image.size for image in images] == [(96, 96)] * 8
    clean, adversarial, perturbation, purified = (np.asarray(image) for image in images[1::2])
    assert np.unique(clean) == np.unique(purified) == [128]
    assert (adversarial[0, 0], adversarial[95, 95], adversarial[0, 95]) == (191, 64, 128)
    assert (perturbation[0, 0], perturbation[95, 95], perturbation[0, 95]) == (255, 0, 128)
    assert (adversarial[:24, :24] == 191).all()
    assert "perturbation, times 2" in page.text


def test_in_l2_the_largest_change_becomes_the_full_range(tmp_path: Path) -> None:
    page, _ = report(tmp_path, run_folder(tmp_path / "run", rows(), threat="L2", eps=4.0))
    perturbation = np.asarray(embedded(page)[5])
    assert (perturbation[0, 0], perturbation[95, 95]) == (255, 0)
    assert "L2 4" in page.text


def test_unchanged_and_coloured_pictures(tmp_path: Path) -> None:
    x = np.zeros((2, 3, 120, 100), dtype=np.float32)
    x[:, 0] = 1
    stages = {"x": x, "x_adv": x, "x_hat": x}
    page, _ = report(tmp_path, run_folder(tmp_path / "run", rows(), threat="L2", **stages))
    images = embedded(page)
    assert images[0].size == (100, 120)
    assert images[0].getpixel((0, 0)) == (255, 0, 0)
    assert images[4].getpixel((0, 0)) == (128, 128, 128)


def test_predictions_carry_a_sign(tmp_path: Path) -> None:
    page, text = report(tmp_path, run_folder(tmp_path / "run", rows(), parameters=PGD))
    (table,) = page.of("pictures")
    assert table.columns == ["truth", "seven", "two"]
    stages = [line.pop("truth") for line in table.lines]
    assert stages == ["clean", "adversarial", "perturbation, times 2", "purified"]
    clean, adversarial, perturbation, purified = (list(line.values()) for line in table.lines)
    right, wrong = "\u2713right:", "\u2717wrong:"
    assert clean == [f"bare {right} {n}defended {right} {n}" for n in ("seven", "two")]
    assert adversarial == [f"bare {right} seven", f"bare {wrong} five"]
    assert perturbation == ["", ""]
    assert purified == [f"defended {right} seven", f"defended {wrong} one"]
    assert "| defended, purified | \u2713 seven | \u2717 one |" in text
    assert "PGD-40 x5, eot(20), L\u221e 0.25" in page.text


def test_markdown_links_to_sheets_that_are_there(tmp_path: Path) -> None:
    _, text = report(tmp_path, run_folder(tmp_path / "run", rows(), eps=0.25))
    (link,) = re.findall(r"!\[.*?\]\((\S+)\)", text)
    assert re.fullmatch(r"[\w./~%-]+", link)
    sheet = Image.open(tmp_path / "out" / unquote(link))
    assert sheet.size == (2 * 96 + 4, 4 * 96 + 3 * 4)
    assert [sheet.getpixel((100, y)) for y in (0, 100, 200, 300)] == [128, 191, 255, 128]
    assert sheet.getpixel((98, 0)) == 255


@pytest.mark.parametrize(
    ("fault", "said"),
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
def test_a_picture_that_is_none_is_named(tmp_path: Path, fault: dict[str, Any], said: str) -> None:
    run = run_folder(tmp_path / "run", rows(), **fault)
    with pytest.raises(ValueError, match=r"0a1b2c3d\.safetensors is truncated or") as error:
        write_report([run], tmp_path / "out")
    assert said in str(error.value)
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
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere; give a run folder"):
        merge([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match=r"results\.json; `spearshield"):
        merge([tmp_path])
    run = run_folder(tmp_path / "run", [])
    with pytest.raises(ValueError, match=r"results\.json holds no rows"):
        merge([run])
    (run / "results.json").write_text("[{")
    with pytest.raises(ValueError, match=r"results\.json is not JSON"):
        merge([run])
    run = run_folder(tmp_path / "run", [row(robust_acc=float("nan"))])
    with pytest.raises(ValueError, match=r"results\.json is not JSON: NaN is not a number"):
        merge([run])
    run = run_folder(tmp_path / "run", rows())
    (run / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match=r"recipe\.json is not JSON"):
        merge([run])


@pytest.mark.parametrize(
    ("name", "eps", "said"),
    [
        ("Linf", 0.3, "L\u221e 0.3"),
        ("Linf", 8 / 255, "L\u221e 8/255"),
        ("Linf", 0.2, "L\u221e 0.2"),
        ("L2", 1.5, "L2 1.5"),
        ("Linf", 0.0314, "L\u221e 0.0314"),
    ],
)
def test_budgets_as_people_write_them(name: str, eps: float, said: str) -> None:
    assert words.threat(name, eps) == said


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


def link(name: str, trained_on: str, attack: str, **changes: Any) -> Row:
    """A row of one round under the attack that was learnt in another, or in its own."""
    parameters = {"attack": {}, "training": {"name": name, "trained_on": trained_on, "steps": 10}}
    view = WORST_CASE if attack == WORST_CASE else "oblivious"
    return row(method=name, attack=attack, view=view, parameters=parameters, **changes)


def test_rounds_show_attack_and_recovery_of_each(tmp_path: Path) -> None:
    given = [
        link("one", "", "one", asr=0.9, dsr=0.8, acc=0.97, seed=0),
        link("one", "", "two", asr=0.1, dsr=0.1),
        link("one", "", WORST_CASE, asr=1.0, robust_acc=0.3, acc=0.97),
        link("two", "one", "two", asr=0.7, dsr=0.5, acc=0.95),
        link("two", "one", WORST_CASE, asr=1.0, robust_acc=0.4, acc=0.95),
        link("other", "", "other", asr=0.6, dsr=0.6),  # nobody is against it
        link("blind", "one", "one", asr=0.6, dsr=0.6),  # it left no attack
    ]
    page, text = report(tmp_path, run_folder(tmp_path / "run", given))
    assert ("a", {"href": "#rounds-part"}) in page.tags
    for line in (
        "| share by round | round 1 | round 2 |",
        "| attack success | 90.0 | 70.0 |",
        "| recovery | 80.0 | 50.0 |",
        "| clean accuracy | 97.0 | 95.0 |",
        "| robust accuracy | 30.0 | 40.0 |",
    ):
        assert line in text
    assert text.count("share by round") == 1
    assert "attack success: 90.0 % round 1, 70.0 % round 2." in page.text


def test_recovery_is_not_shown_where_a_round_broke_nothing(tmp_path: Path) -> None:
    given = [
        link("one", "", "one", asr=0.0, dsr=None),
        link("one", "", WORST_CASE),
        link("two", "one", "two", asr=0.7, dsr=0.5),
        link("two", "one", WORST_CASE),
    ]
    _, text = report(tmp_path, run_folder(tmp_path / "run", given))
    assert "| attack success | 0.0 | 70.0 |" in text and "| recovery |" not in text


def test_without_rounds_there_is_no_part_for_them(tmp_path: Path) -> None:
    page, text = report(tmp_path, run_folder(tmp_path / "run", rows()))
    assert "round" not in text and ("a", {"href": "#rounds-part"}) not in page.tags
