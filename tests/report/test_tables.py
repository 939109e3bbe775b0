"""Tables of a report: the headline, every row, and the sources of the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from report.samples import (
    PGD,
    SETTING,
    WORST,
    column,
    findings,
    labels,
    lines,
    report,
    row,
    rows,
)
from spearshield import discover
from spearshield.judging.results import WORST_CASE, Row
from spearshield.report import words
from spearshield.report.findings import SEEDS


def test_headline_shows_the_worst_case_next_to_an_unaware_attacker() -> None:
    table = report(rows()).headline
    assert [title for title, _ in table.groups] == [SETTING]
    unaware = "90.0 % [88.0, 92.0] / FGSM, unaware, 1,000 test images"
    judged = f"no verdict / its rows record no verdict / Next: {words.NEXT['not examined']}"
    defence = "ape_gan / 2 attacks / seed 0"
    assert lines(table) == [[defence, "98.0 %", "20.0 % [18.0, 22.0]", judged, unaware]]
    (record,) = table.groups[0].records
    assert record.cells[3].drawing == (0.2, (0.18, 0.22), 0.98, 0.9)


def test_an_unaware_attack_on_the_survivors_of_others_is_not_the_unaware_attacker() -> None:
    left = row(attack="apgd", view="oblivious", robust_acc=0.2, attacked=0, broke=0)
    (unaware,) = (line[4] for line in lines(report([*rows(), left]).headline))
    assert unaware == "90.0 % [88.0, 92.0] / FGSM, unaware, 1,000 test images"


def test_every_row_shows_all_measured_values() -> None:
    (table,) = report(rows()).rows
    assert [line[:2] for line in lines(table)] == [
        ["FGSM", "unaware"],
        ["5 x PGD-40", "adaptive"],
        ["worst case", "all"],
    ]
    values = ["5 x PGD-40", "adaptive", "0", "1,000", "3/20", "25.0 [22.0, 28.0]", "98.0", "74.5"]
    alone = ["", ""]  # the attack aimed at the defended classifier
    assert lines(table)[1] == [*values, *alone, "0.432", "5.68", "0.3", "0.0123", "151", "[1]"]


def test_every_row_shows_the_success_against_the_victim_itself() -> None:
    """A bare classifier that an adaptive attack hardly fools does not hide that it won."""
    adaptive = row(acc=0.9, robust_acc=0.0, interval=(0.0, 0.01), asr=0.047, dsr=0.9)
    oblivious = row(acc=0.9, robust_acc=0.45, view="oblivious", asr=0.95, dsr=0.6)
    (table,) = report([adaptive, oblivious]).rows
    shown = {title: column(table, title) for title in ("broken", "ASR, classifier alone", "DSR")}
    assert shown["broken"] == ["100.0", "50.0"]
    assert shown["ASR, classifier alone"] == ["", "95.0"] and shown["DSR"] == ["", "60.0"]
    assert row(acc=0.0, robust_acc=0.0).broken is None


def test_the_source_of_every_row_names_its_command() -> None:
    given = rows() + rows(seed=1, device="cuda")
    known = {
        "command": "spearshield run demo --seed 1",
        "commit": "c" * 40,
        "data_digest": "d" * 64,
    }
    times = ("2026-11-26T09:20:42Z", "2026-11-25T09:20:42Z", "2026-11-26T08:20:42Z")
    given[3:] = [
        replace(measured, **known, created=time, reused=i < 2)
        for i, (measured, time) in enumerate(zip(given[3:], times, strict=True))
    ]
    shown = report(given)
    versions = "python 3.12.1, spearshield 0.1.0, torch 2.13.0"
    command, no = "spearshield run demo --seed 1", "not recorded"
    time = "2026-11-25T09:20:42Z to 2026-11-26T09:20:42Z"
    measured = ["d" * 12, time, "cuda", versions]
    assert lines(shown.provenance) == [
        ["[1]", "run", "demo", no, no, "0", "1,000", "3", "0", no, no, "cpu", versions],
        ["[2]", "run", "demo", command, "c" * 12, "1", "1,000", "3", "2", *measured],
    ]
    sources = zip(column(shown.rows[0], "seed"), column(shown.rows[0], "source"), strict=True)
    assert set(sources) == {("0", "[1]"), ("1", "[2]")}


def test_seeds_are_averaged_with_their_range_and_the_widest_interval() -> None:
    shares = {0: (0.20, (0.18, 0.22)), 1: (0.23, (0.21, 0.25)), 2: (0.29, (0.26, 0.31))}
    worst = {"attack": WORST_CASE, "view": WORST_CASE, "parameters": {}}
    seeded = [
        row(seed=seed, acc=0.97 + seed / 100, robust_acc=share, interval=interval, **worst)
        for seed, (share, interval) in shares.items()
    ]
    (line,) = lines(report(seeded).headline)
    assert line[1:3] == ["98.0 % / 97.0 to 99.0", "24.0 % [18.0, 31.0] / 20.0 to 29.0"]
    assert line[0] == "ape_gan / 0 attacks / seeds 0, 1, 2"
    assert SEEDS in findings(seeded)


def test_defences_are_grouped_by_setting() -> None:
    pairs = [(method, eps) for method in ("ape_gan", "dae") for eps in (0.3, 0.1)]
    table = report([line for m, eps in pairs for line in rows(method=m, eps=eps)]).headline
    assert [title for title, _ in table.groups] == [SETTING, SETTING.replace("0.3", "0.1")]
    assert labels(table) == ["ape_gan", "dae", "ape_gan", "dae"]


def test_the_lowest_of_repeated_measurements_is_shown() -> None:
    worst = {"attack": WORST_CASE, "view": WORST_CASE, "parameters": {}}
    given = [row(robust_acc=share, **worst) for share in (0.5, 0.3, 0.4)]
    (line,) = lines(report(given).headline)
    assert line[2].startswith("30.0 %") and line[0].endswith("seed 0")
    assert "measured more than once with seed 0; the lowest number is shown" in findings(given)


def test_a_missing_worst_case_is_reported_as_missing() -> None:
    given = rows()[:2]
    lowest = "lowest row: 25.0 [22.0, 28.0], 5 x PGD-40, adaptive, 1,000 test images"
    assert column(report(given).headline, WORST) == [f"not measured / {lowest}"]
    assert "no worst-case row for seed 0" in findings(given)
    assert "robust only" not in findings(given)


def test_attacks_on_more_images_belong_to_the_worst_case_that_follows() -> None:
    oblivious, adaptive, worst = rows()
    given = [replace(oblivious, images=10_000), adaptive, worst]
    (line,) = lines(report(given).headline)
    assert line[2].startswith("20.0") and line[4].endswith("FGSM, unaware, 10,000 test images")
    assert column(report(given).rows[0], "images") == ["10,000", "1,000", "1,000"]
    assert "robust only" in findings(given) and "differ in their number" not in findings(given)


def test_entries_of_the_same_name_show_the_settings_that_differ() -> None:
    wide = {"attack": {**PGD, "loss": "dlr"}, "training": {"method": {"width": 128}, "steps": 10}}
    shown = report([row(), row(parameters=wide)])
    assert labels(shown.headline) == ["ape_gan (width=64)", "ape_gan (width=128)"]
    attacks = [title for table in shown.rows for title in column(table, "attack")]
    assert attacks == ["5 x PGD-40", "5 x PGD-40 (loss=dlr)"]


def test_learned_attacks_are_distinguished_by_their_training() -> None:
    def copy(method: str, digest: str, queries: int) -> Row:
        training = {"steps": 60, "trained_on": method}
        about = {"sources": [{"sha256": digest}], "queries": queries, "training": training}
        return row(method=method or "bare", attack="substitute_b", parameters={"attack": about})

    tables = report([copy("", "aaa", 5), copy("dae", "bbb", 6)]).rows
    attacks = [title for table in tables for title in column(table, "attack")]
    assert attacks == ['substitute_b (trained_on="")', "substitute_b (trained_on=dae)"]


@pytest.mark.parametrize(
    ("name", "about", "title"),
    [
        ("auto_attack", {"steps": 100}, "AutoAttack"),
        ("apgd", {"loss": "ce", "steps": 100}, "APGD-CE"),
        ("apgd", {"targets": 9}, "APGD-T"),
        ("apgd_targeted_dlr", {"targets": 9}, "APGD-T"),
        ("apgd_ce", {"loss": "cross_entropy"}, "APGD-CE"),
        ("pgd_dlr", {"loss": "dlr", "steps": 40}, "PGD-DLR-40"),
        ("pgd", {"steps": 10, "restarts": 1}, "PGD-10"),
        ("pgd", {"training": {}}, "pgd"),
        ("automatic_bpda(fmn)", {"steps": 3}, "Automatic BPDA (FMN)"),
        ("my_attack", {"steps": 3}, "my_attack"),
        (WORST_CASE, {}, "worst case"),
    ],
)
def test_titles_of_attacks(name: str, about: dict[str, Any], title: str) -> None:
    assert words.attack(name, about) == title


@pytest.mark.parametrize("name", discover.registered("attacks"))
def test_every_attack_of_the_package_has_a_title(name: str) -> None:
    assert words.attack(name, {}) != name and "_" not in words.attack(name, {})


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("oblivious", "unaware"),
        ("bpda", "BPDA"),
        ("bpda(approximation)", "BPDA, approximation"),
        ("eot(20)", "EOT, 20 draws"),
        ("eot(20, bpda)", "EOT, 20 draws of BPDA"),
        ("eot(5, bpda(approximation))", "EOT, 5 draws of BPDA, approximation"),
        ("in_range", "in-range"),
        ("my_view(3)", "my view(3)"),
    ],
)
def test_titles_of_views(name: str, title: str) -> None:
    assert words.view(name) == title


@pytest.mark.parametrize(
    ("name", "eps", "title"),
    [
        ("Linf", 0.3, "L\u221e 0.3"),
        ("Linf", 8 / 255, "L\u221e 8/255"),
        ("Linf", 0.2, "L\u221e 0.2"),
        ("L2", 1.5, "L2 1.5"),
        ("Linf", 0.0314, "L\u221e 0.0314"),
        ("L2", 300 / 255, "L2 300/255"),
        ("L2", 1e308, "L2 1e+308"),
    ],
)
def test_budgets_are_written_as_in_papers(name: str, eps: float, title: str) -> None:
    assert words.threat(name, eps) == title
