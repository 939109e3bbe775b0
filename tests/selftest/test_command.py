"""The command prints each case, and fails if one is judged wrongly."""

from __future__ import annotations

import pytest

import spearshield.selftest
from mutations import fails_under
from spearshield.cli import main
from spearshield.judging.finding import Finding
from spearshield.selftest import Judged
from spearshield.selftest.attacks import ATTACKS
from spearshield.selftest.defences import DEFENCES
from spearshield.selftest.honest import HONEST

FEEBLE = Finding("feeble_attack", "high", {"steps": 1}, "Too few.", "take more.")
RIGHT = (Judged(ATTACKS[0], "not examined", 0.9, (FEEBLE,)), Judged(HONEST[0], "broken", 0.0))
WRONG = (Judged(DEFENCES[0], "no flaw found", 0.9), Judged(HONEST[0], "refused", error="an error"))


@fails_under(
    "every case passes",
    (Judged, "passed", True),
    rows=(*RIGHT, *WRONG),
    status=1,
    words=("missed",),
)
@pytest.mark.parametrize(
    "rows, status, words",
    [
        (RIGHT, 0, ("one step", "caught", "silent", "2 of 2")),
        ((*RIGHT, *WRONG), 1, ("missed",)),
        (WRONG, 1, ("accused", "an error", "0 of 2")),
    ],
)
def test_the_exit_status_tells_whether_all_cases_are_judged_rightly(
    rows, status, words, monkeypatch, capsys
):
    monkeypatch.setattr(spearshield.selftest, "selftest", lambda progress: iter(rows))
    assert main(["selftest"]) == status
    printed = capsys.readouterr().out
    assert all(word in printed for word in words)
