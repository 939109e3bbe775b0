"""The table that commands print."""

import pytest

from report.samples import row
from spearshield.cli import console
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
