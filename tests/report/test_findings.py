"""Findings: gaps, failed checks, and limits of a comparison."""

from __future__ import annotations

from dataclasses import replace

import pytest

from report.samples import (
    SETTING,
    findings,
    report,
    rows,
)


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
        found = {"check": "c", "severity": "high", "saw": {"n": 1}, "means": "m.", "next": "x."}
        given += [first, second, replace(worst, robust_acc=robust, findings=[found])]
    gaps = "ape_gan 90.0 % (worst case 10.0 %), dae 90.0 % (worst case 20.0 %)."
    assert findings(given).count("robust only") == 1 and gaps in findings(given)
    check = f"high: ape_gan, dae ({SETTING}, seed 0): c: n 1. m. Next: x."
    assert findings(given).count(check) == 1


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
    shown = findings([*cells, worst])
    assert "black_box: images broken 0.123. Masked gradients. Next: look." in shown
    assert "random defence, one draw: 90.0 % clean, 50.0 % under attack" in shown
    assert "random defence, all draws right: 70.0 % clean, 10.0 % under attack" in shown
    assert "rejects 3.0 % of the clean and 65.0 % of the attacked images" in shown
    assert [finding.kind for finding in report([*cells, worst]).findings if finding.alarming] == [
        "gap",
        "high",
    ]
