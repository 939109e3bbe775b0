"""Accuracy over the strength of an attack: which rows make a line, and where its points are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mutations import fails_under
from report.samples import report, row
from spearshield.judging.results import Row
from spearshield.report import strengths as module
from spearshield.report.charts import Chart
from spearshield.report.defences import group
from spearshield.report.strengths import strengths


def attacked(eps: float, robust: float, size: float | None = None, **changes: object) -> Row:
    settings = {"attack": "fgsm", "eps": eps, "robust_acc": robust, "normalised_l2": size}
    return row(**{**settings, "parameters": {"attack": {}}, **changes})


def charts(*rows: Row) -> list[Chart]:
    return strengths(group(rows))


THREE = (attacked(0.1, 0.8, 0.05), attacked(0.2, 0.5, 0.11), attacked(0.3, 0.1, 0.16))


def test_a_line_over_the_budget_and_one_over_the_normalised_size():
    by_budget, by_size = charts(*THREE)
    (line,) = by_budget.lines
    assert line.points == ((0.0, 0.98), (0.1, 0.8), (0.2, 0.5), (0.3, 0.1))
    assert line.label.startswith("ape_gan, FGSM, adaptive")
    assert by_budget.axes.horizontal == "budget in L\u221e"
    (line,) = by_size.lines
    assert [position for position, _ in line.points] == [0.0, 0.05, 0.11, 0.16]
    assert "normalised L2" in by_size.axes.horizontal


def test_seeds_are_averaged():
    other = [replace(one, seed=1, robust_acc=one.robust_acc - 0.1) for one in THREE]
    (line,) = charts(*THREE, *other)[0].lines
    assert [share for _, share in line.points] == pytest.approx([0.98, 0.75, 0.45, 0.05])


def test_attacks_of_one_name_are_lines_of_their_own():
    short, long = (
        [
            replace(one, attack="pgd", robust_acc=robust, parameters={"attack": {"steps": steps}})
            for one in THREE
        ]
        for steps, robust in ((1, 0.9), (100, 0.1))
    )
    lines = charts(*short, *long)[0].lines
    assert [line.label for line in lines] == [
        "ape_gan, PGD-1, adaptive",
        "ape_gan, PGD-100, adaptive",
    ]
    assert [{share for _, share in line.points[1:]} for line in lines] == [{0.9}, {0.1}]


@fails_under("lines of two budgets", (module, "LEAST", 2))
def test_two_budgets_make_no_line():
    assert charts(*THREE[:2]) == []


def test_sizes_that_were_not_measured_make_no_line_over_the_size():
    (only,) = charts(*(replace(one, normalised_l2=None) for one in THREE))
    assert "budget" in only.axes.horizontal


def test_views_and_attacks_are_lines_of_one_chart_with_a_table():
    unaware = [
        replace(one, view="oblivious", normalised_l2=1.1 * (one.normalised_l2 or 0))
        for one in THREE
    ]
    by_budget, by_size = charts(*THREE, *unaware)
    assert len(by_budget.lines) == len(by_size.lines) == 2
    assert by_size.positions[-1] == pytest.approx(0.176)
    # Beyond the end of a line, the table has no number.
    assert [line.at(0.17) is None for line in by_size.lines].count(True) == 1
    assert by_size.lines[0].at(0.08) == pytest.approx(0.65)
    parts = {part.name: part for part in report([*THREE, *unaware]).parts}
    _, table = parts["strengths"].figures[0]
    assert [cell.text for cell in table.groups[0].records[0].cells[2:]][:2] == ["98.0", "80.0"]
