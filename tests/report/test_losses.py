"""The losses of trainings: read from the log, and drawn as curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from report.samples import report, rows, run_folder, written
from spearshield.report import runs
from spearshield.report.losses import Losses
from spearshield.report.tables import Curve


def log(folder: Path, *lines: str, end: str = "\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "losses.jsonl").write_text("\n".join(lines) + end)
    return folder


def test_every_loss_of_a_run_has_a_curve(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows())
    steps = [
        json.dumps({"step": i, "g": float(i), **({"d": 5} if i % 2 else {})}) for i in range(4)
    ]
    log(run / "ape_gan", *steps)
    log(run / "standard_training", '{"step": 0, "loss": 2}', '{"step": 1, "lo', end="")
    assert runs.read([run])[0].losses == (
        Losses("standard_training", "loss", (2.0,)),
        Losses("ape_gan", "g", (0.0, 1.0, 2.0, 3.0)),
        Losses("ape_gan", "d", (5.0, 5.0)),
    )
    page, markdown = written(tmp_path, run)
    paths = [a["d"] for tag, a in page.tags if tag == "path" and a.get("class") == "curve"]
    assert paths == [
        "M2.0 44.0h1",
        "M2.0 44.0L107.3 30.7L212.7 17.3L318.0 4.0",
        "M2.0 44.0L318.0 44.0",
    ]
    assert "| ape_gan | g | 4 | 0 | 3 | 0 | 3 |" in markdown
    several, _ = written(tmp_path, run, run_folder(tmp_path / "b", rows(seed=1)))
    assert "ape_gan, run run" in several.text


def test_a_curve_has_few_points_each_the_mean_of_successive_values() -> None:
    assert Losses("t", "l", (1.0, 2.0)).curve == (1.0, 2.0)
    curve = Losses("t", "l", tuple(map(float, range(250)))).curve
    assert len(curve) == 84 and curve[:2] == (1.0, 4.0) and curve[-1] == 249.0


def test_a_curve_reaches_from_its_lowest_to_its_highest_value() -> None:
    assert Curve((3.0, 1.0, 2.0)).heights == (1.0, 0.0, 0.5)
    assert Curve((5.0, 5.0)).heights == (0.0, 0.0)
    assert Curve(Losses("t", "l", (-1.7e308, 1.7e308)).curve).heights == (0.0, 1.0)


def test_a_run_without_a_log_has_no_training_section() -> None:
    assert report(rows()).training is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting"),
        ("[1]", "not a JSON object"),
        ('{"step": 0, "g": "1"}', "g is '1'"),
        ('{"step": 0, "g": NaN}', "NaN is not a number"),
        ('{"step": 0, "g": 1e999}', "g is inf"),
        ('{"step": 0, "g": true}', "g is True"),
        ('{"step": 0, "g": 1' + "0" * 400 + "}", "too large"),
    ],
)
def test_a_damaged_log_is_named(tmp_path: Path, line: str, reason: str) -> None:
    run = run_folder(tmp_path / "run", rows())
    log(run / "ape_gan", '{"step": 0, "g": 1.0}', line)
    with pytest.raises(ValueError, match=r"losses\.jsonl, line 2, is damaged \(") as error:
        runs.read([run])
    assert reason in str(error.value) and "delete the file to do without" in str(error.value)
