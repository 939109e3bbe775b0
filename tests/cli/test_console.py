"""The table that commands print."""

from argparse import Namespace
from typing import get_args

import pytest

from mutations import fails_under
from report.samples import row
from spearshield.cli import commands, console
from spearshield.judging.finding import Verdict
from spearshield.judging.results import WORST_CASE


def test_budgets_are_told_apart_where_there_are_several(capsys: pytest.CaptureFixture[str]) -> None:
    worst = {"attack": WORST_CASE, "view": WORST_CASE}
    console.table([row(), row(**worst), row(threat="L2", eps=4.0), row(**worst, threat="L2")])
    printed = capsys.readouterr().out
    assert printed.count("Linf 0.3") == 2
    assert "L2 4 " in printed
    assert "L2 0.3" in printed
    console.table([row(), row(**worst)])
    assert capsys.readouterr().out.count("Linf 0.3") == 1


def test_the_success_against_the_victim_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {"acc": 0.9, "robust_acc": 0.0, "asr": 0.047, "dsr": 0.123}
    console.table([row(view="adaptive", **shares), row(view="oblivious", **shares)])
    first, second = [line.split() for line in capsys.readouterr().out.splitlines()[3:5]]
    assert first[-2:] == ["100.0", "-"] and second[-2:] == ["100.0", "12.3"]
    console.table([row(view="adaptive", **shares)])
    printed = capsys.readouterr().out
    assert "4.7" not in printed and "DSR" not in printed
    assert "of the images that the judged model gets right" in printed


@fails_under("a broken model passes the gate", (commands, "VALID", "broken"), verdict="broken")
@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_the_gate_passes_the_best_verdict_only(
    capsys: pytest.CaptureFixture[str], verdict: str
) -> None:
    worst = row(attack=WORST_CASE, view=WORST_CASE, robust_acc=0.0, verdict=verdict)
    asked = Namespace(min_robust_acc=None, require_valid=True)
    status = commands._gate((row(), worst), asked)
    printed = capsys.readouterr().out
    assert status == (0 if verdict == "no flaw found" else 3)
    if status:
        assert f"robust accuracy 0.00%, {verdict}; " in printed
    not_asked = Namespace(min_robust_acc=None, require_valid=False)
    assert commands._gate((worst,), not_asked) == 0
