"""The table that commands print."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any, get_args

import pytest
import torch
from rich.console import Console

from mutations import fails_under
from report.samples import row
from spearshield.cli import commands, console
from spearshield.cli.main import main
from spearshield.judging.finding import Finding, Verdict
from spearshield.judging.results import WORST_CASE
from spearshield.selftest import Judged
from spearshield.selftest.specimen import Specimen

WORST: dict[str, Any] = {"attack": WORST_CASE, "view": WORST_CASE}


def terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> StringIO:
    """The text that a terminal of this width would show, without colours."""
    shown = StringIO()
    out = Console(file=shown, force_terminal=True, width=width, color_system=None, soft_wrap=True)
    monkeypatch.setattr(console, "out", out)
    return shown


def test_rows_are_grouped_by_defence_and_budget(capsys: pytest.CaptureFixture[str]) -> None:
    console.table([row(), row(threat="L2", eps=4.0), row(**WORST), row(method="dae", **WORST)])
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert printed[:12] == [
        "percent of 1000 test images, with 95 % intervals",
        "",
        "attack, view broke clean robust interval broken",
        "ape_gan, Linf 0.3",
        "5 x PGD-40, adaptive 3/20 98.0 25.0 22.0-28.0 74.5",
        "worst case 3/20 98.0 25.0 22.0-28.0 74.5",
        "",
        "ape_gan, L2 4",
        "5 x PGD-40, adaptive 3/20 98.0 25.0 22.0-28.0 74.5",
        "",
        "dae, Linf 0.3",
        "worst case 3/20 98.0 25.0 22.0-28.0 74.5",
    ]


def test_the_success_against_the_victim_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {"acc": 0.9, "robust_acc": 0.0, "asr": 0.047, "dsr": 0.123}
    console.table([row(view="adaptive", **shares), row(view="oblivious", **shares)])
    first, second = [line.split() for line in capsys.readouterr().out.splitlines()[4:6]]
    assert first[-2:] == ["100.0", "-"] and second[-2:] == ["100.0", "12.3"]
    console.table([row(view="adaptive", **shares)])
    printed = capsys.readouterr().out
    assert "4.7" not in printed and "DSR" not in printed
    assert "of the images that the judged model gets right" in printed


def test_a_table_without_rows_and_an_attack_without_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.table([])
    assert capsys.readouterr().out == "no rows\n"
    console.table([row(attacked=0, broke=0)])
    assert "none left" in capsys.readouterr().out


LONG = "cycle_adversarial_training_against_a_generator"
NAMED = [
    row(method="standard_training", view="bpda(approximation)", attack=LONG),
    row(method=LONG, view="oblivious", attacked=10_000, broke=10_000, dsr=1.0),
    row(method="standard_training", **WORST),
]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_breaks_no_name_and_no_number(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    shown = terminal(monkeypatch, width)
    console.table(NAMED)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    numbers = [line for line in lines if "22.0-28.0" in line]
    assert len(numbers) == 3 and len({line.index("22.0-28.0") for line in numbers}) == 1
    assert {"standard_training, Linf 0.3", f"{LONG}, Linf 0.3"} <= {*lines}
    for name in (f"{LONG},", "bpda(approximation)", "oblivious", "worst case"):
        assert name in shown.getvalue()


def test_output_to_a_file_has_no_codes_and_folds_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = {"check": "c", "severity": "low", "saw": {}, "means": "m " * 99, "next": "n."}
    console.table(NAMED)
    console.findings([row(**WORST, verdict="broken", findings=[found])])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert f"  {LONG}, bpda(approximation)  " in printed and "m " * 98 in printed
    headline = "ape_gan, Linf 0.3: 25.0 % robust (95 % interval 22.0 to 28.0), broken\n"
    assert f"{headline}  the attacks succeed. Next: do not rely on it" in printed


def test_names_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.table([row(method="a\x1b[31mb\rc", attack="[bold]x")])
    printed = capsys.readouterr().out
    assert "a?[31mb?c, Linf" in printed and "[bold]x, adaptive" in printed


def test_an_output_that_knows_few_characters_shows_the_others_as_escapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, TextIOWrapper(BytesIO(), encoding="ascii"))
    assert main(["show", "\u76fe"]) == 2
    console.table([row(method="\u76fe")])
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        assert isinstance(stream, TextIOWrapper) and isinstance(stream.buffer, BytesIO)
        assert b"\\u76fe" in stream.buffer.getvalue()


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


def test_the_self_test_is_grouped_by_kind_with_the_findings_below_each_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def judged(name: str, kind: str, checks: Sequence[str], **about: Any) -> Judged:
        specimen = Specimen(kind, name, "about", lambda _: torch.nn.Identity(), truth=0.1)
        findings = tuple(Finding(check, "high", {}, "m.", "n.") for check in checks)
        return Judged(specimen, findings=findings, **about)

    shown = terminal(monkeypatch, 80)
    checks = [f"a_check_of_the_evaluation_{i}" for i in range(4)]
    flawed = judged("flaw", "flawed defence", checks, verdict="not trustworthy", robust_acc=0.5)
    honest = judged("honest", "honest model", [], verdict="refused", error="one line")
    console.selftest([flawed, honest])
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1] == "flawed defence" and lines[2].split()[:4] == ["flaw", "50", "%", "10"]
    assert " ".join(" ".join(lines[3:5]).split()) == ", ".join(checks)
    assert lines[6] == "honest model" and lines[8] == "    one line"
