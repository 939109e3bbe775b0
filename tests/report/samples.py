"""Rows, run folders and pictures for the tests of the report, and readers of its output."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from spearshield.judging.provenance import Provenance
from spearshield.judging.results import WORST_CASE, Row
from spearshield.report import write_report
from spearshield.report.defences import group
from spearshield.report.document import Report, document
from spearshield.report.runs import Run
from spearshield.report.tables import Table

WORST = "robust accuracy, worst case"
SETTING = "mnist, lenet, L\u221e 0.3, 1,000 test images"
VERSIONS = {"python": "3.12.1", "spearshield": "0.1.0", "torch": "2.13.0"}
PROVENANCE = Provenance(
    "spearshield run demo", "c" * 40, "d" * 64, "e" * 64, VERSIONS, "cpu", "2026-11-26T09:20:42Z"
)
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
        attacked=20,
        broke=3,
        seed=0,
        device="cpu",
        versions=VERSIONS,
        parameters={"attack": PGD, "training": {"method": {"width": 64}, "steps": 10}},
    )
    return replace(plain, **changes)


def rows(**changes: Any) -> list[Row]:
    """One defence: an oblivious row, an adaptive row and their worst case."""
    oblivious = {"attack": "fgsm", "view": "oblivious", "robust_acc": 0.9, "interval": (0.88, 0.92)}
    oblivious |= {"attacked": None, "broke": None}  # all images
    worst = {"attack": WORST_CASE, "view": WORST_CASE, "robust_acc": 0.2, "interval": (0.18, 0.22)}
    bare = {"training": row().parameters["training"]}
    return [
        row(**{**oblivious, "parameters": {**bare, "attack": {}}, **changes}),
        row(**changes),
        row(**{**worst, "parameters": {**bare, "cells": 2}, **changes}),
    ]


def curved(shares: Sequence[float], **changes: Any) -> Row:
    """A row of FMN with a curve through these shares at even distances."""
    eps = changes.get("eps", 0.3)
    points = [(eps * k / (len(shares) - 1), share) for k, share in enumerate(shares)]
    plain = {"attack": "fmn", "parameters": {"attack": {}}, "curve": points}
    return row(**{**plain, "acc": shares[0], "robust_acc": shares[-1], **changes})


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
    stages = ("x", "x_adv", "x_hat", "feature_plane", "feature_distances")
    tensors = {name: about.pop(name, None) for name in stages}
    save_file(
        {k: v for k, v in tensors.items() if v is not None}, path, {"picture": json.dumps(about)}
    )


class Page(HTMLParser):
    """The tags and the text of a page, as it is and with spaces between tags.

    It refuses unbalanced tags.
    """

    VOID = ("meta", "link", "img", "br", "input", "wbr", "circle", "rect", "path")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = self.spaced = ""
        self.feed(html)
        self.close()
        assert self.open == []
        self.text, self.spaced = (" ".join(text.split()) for text in (self.text, self.spaced))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.spaced += " "

    def handle_data(self, data: str) -> None:
        self.text += data
        self.spaced += data


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


def labels(table: Table) -> list[str]:
    """The text of the first cell of each line, without its details."""
    return [line[0].partition(" / ")[0] for line in lines(table)]


def column(table: Table, title: str) -> list[str]:
    titles = [column.title for column in table.plain.columns]
    return [line[titles.index(title)] for line in lines(table)]


def findings(given: Sequence[Row]) -> str:
    return "\n".join(f"{kind}: {text}" for kind, text in report(given).findings)
