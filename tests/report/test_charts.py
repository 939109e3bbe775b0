"""Charts: accuracy over distance, and attack and recovery over rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from report.samples import (
    PROVENANCE,
    curved,
    lines,
    report,
    row,
    run_folder,
    written,
)
from spearshield.judging import results
from spearshield.judging.results import WORST_CASE, Row
from spearshield.judging.score import Score
from spearshield.threat import L2, Linf


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
        normalised_l2=torch.tensor(l2),
        ssim=ones,
        clean_margin=-ones,
        adv_margin=ones,
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


def link(name: str, trained_on: str, attack: str, **changes: Any) -> Row:
    """A row of one round under the attack that this or another round learned."""
    parameters = {"attack": {}, "training": {"name": name, "trained_on": trained_on, "steps": 10}}
    view = WORST_CASE if attack == WORST_CASE else "oblivious"
    return row(method=name, attack=attack, view=view, parameters=parameters, **changes)


def test_a_curve_counted_by_hand_from_the_outcomes_to_the_table(tmp_path: Path) -> None:
    # broken at 0.1; survives; broken just past the budget; misclassified without attack
    score = outcomes([1, 0, 1, 0], l2=[0.1, 0.05, 0.400009, 0.1], linf=[0.3, 0.01, 0.3, 0.01])
    curve = score.curve(L2(0.4))
    distances, shares = zip(*curve, strict=True)
    assert distances == pytest.approx([k * 0.02 for k in range(21)], abs=1e-12)
    assert shares == (0.75,) * 5 + (0.5,) * 15 + (0.25,)
    assert (shares[0], shares[-1]) == (score.acc, score.robust_acc)
    assert [share for _, share in score.curve(Linf(0.3))] == [0.75] * 20 + [0.25]
    about = ("recipe", "data", "split", "classifier", "method", "view", "seed")
    fields = {name: getattr(row(), name) for name in (*about, "parameters")}
    measured = results.row(
        score, PROVENANCE, **fields, attack="fmn", threat="L2", eps=0.4, curve=curve
    )
    run = run_folder(tmp_path / "run", [measured])
    assert results.read(run / "results.json") == [measured]
    ((line,),) = charts([measured])
    assert line[0].startswith("ape_gan, ") and line[0].endswith("FMN, adaptive")
    assert line[1:] == ["75.0", "50.0", "50.0", "50.0", "25.0"]
    ((_, table),) = report([measured]).parts[0].figures
    at = [column.title for column in table.columns[2:]]
    assert at == ["at 0", "at 0.1", "at 0.2", "at 0.3", "at 0.4"]


def test_a_line_is_drawn_through_its_points(tmp_path: Path) -> None:
    page, _ = written(tmp_path, run_folder(tmp_path / "run", [curved([1.0, 0.75, 0.0])]))
    drawn = next(about["d"] for _, about in page.tags if about.get("class") == "curve")
    assert drawn == "M52.0 12.0L340.0 82.0L628.0 292.0"
    still, _ = written(tmp_path, run_folder(tmp_path / "b", [row(curve=[(0.0, 1.0), (0.0, 0.0)])]))
    drawn = next(about["d"] for _, about in still.tags if about.get("class") == "curve")
    assert drawn == "M52.0 12.0L52.0 292.0"
    assert "ape_gan, FMN, adaptive: 100.0 % at 0, 75.0 % at 0.15, 0.0 % at 0.3." in page.text


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
