"""The headline: the verdict on each defence, and the next step."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from report.samples import rows
from spearshield.experiment.audit import Report
from spearshield.judging.finding import Verdict
from spearshield.report import words
from spearshield.report.defences import group
from spearshield.report.headline import judgement

HIGH = {"check": "c", "severity": "high", "saw": {}, "means": "m.", "next": "raise the steps"}


def judged(*verdicts: str | None, **changes: object) -> tuple[str, str, str]:
    """The judgement of one defence with one seed for each verdict."""
    given = []
    for seed, verdict in enumerate(verdicts):
        *attacks, worst = rows(seed=seed)
        given += [*attacks, rows(seed=seed, verdict=verdict, **changes)[-1]]
        assert worst.verdict is None
    (defence,) = group(given)
    return judgement(defence)


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_every_verdict_has_a_meaning_and_a_next_step(verdict: str) -> None:
    assert judged(verdict) == (verdict, words.WHY[verdict], words.NEXT[verdict])


def test_the_gravest_verdict_of_several_seeds_comes_first() -> None:
    found = judged("no flaw found", "broken", "not trustworthy")
    assert found[0] == "not trustworthy, broken, no flaw found"
    assert found[1] == words.WHY["not trustworthy"]


def test_the_next_step_is_the_one_of_the_grave_finding() -> None:
    assert judged("not trustworthy", findings=[HIGH])[2] == "raise the steps"
    assert judged("broken", findings=[HIGH])[2] == words.NEXT["broken"]


def test_a_missing_verdict_is_called_missing() -> None:
    assert judged(None)[:2] == ("no verdict", "its rows record no verdict")
    (defence,) = group(rows()[:2])
    assert judgement(defence)[:2] == ("no verdict", "no row of the worst case")


def test_a_printed_audit_is_a_few_lines_with_the_number_the_verdict_and_the_next_step() -> None:
    given = rows(verdict="not examined", parameters={"training": {}})
    shown = str(Report(tuple(given), Path(), {})).splitlines()
    assert [" ".join(line.split()) for line in shown] == [
        "lenet, ape_gan: 1000 test images, Linf 0.3",
        "clean accuracy 98.0 %",
        "robust accuracy 20.0 % 95 % interval 18.0 to 22.0, worst of 2 attacks",
        "broken 79.6 % of the images that it gets right",
        "unaware attacker 90.0 % attacks the classifier alone",
        f"verdict not examined: {words.WHY['not examined']}",
        f"next {words.NEXT['not examined']}",
    ]
    assert max(map(len, shown)) <= 80
