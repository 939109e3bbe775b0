"""The files of a report: complete, escaped, self-contained; and the sources that are refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from report.samples import (
    EVIL,
    curved,
    lines,
    report,
    row,
    rows,
    run_folder,
    written,
)
from spearshield.judging import results
from spearshield.judging.results import WORST_CASE
from spearshield.report import runs, write_report


def test_html_and_markdown_show_every_cell_and_finding(tmp_path: Path) -> None:
    first, *others = rows(curve=[(0.0, 0.98), (0.3, 0.25)])
    given = [first, *others, *rows(seed=1), row(method="dae")]
    page, markdown = written(tmp_path, run_folder(tmp_path / "run", given))
    shown = report(given)
    charts = [table for part in shown.parts for _, table in part.figures]
    plain = re.sub(r"\\|\*\*|</?code>", "", markdown)
    for table in (shown.headline, *shown.rows, *charts, shown.provenance):
        assert table.caption in page.text
        for text in {text for line in lines(table) for cell in line for text in cell.split(" / ")}:
            assert text in page.text and text in plain, text
    assert len(shown.findings) >= 3
    for kind, text in shown.findings:
        assert f"{kind} {text}" in page.text and f"{kind} {text}" in plain


def test_parts_without_content_are_left_out(tmp_path: Path) -> None:
    page, markdown = written(tmp_path, run_folder(tmp_path / "run", rows()))
    for title in ("Accuracy over distance", "Attack and recovery by round", "Pictures"):
        assert title not in page.text and title not in markdown


def test_names_from_users_are_escaped(tmp_path: Path) -> None:
    names = dict.fromkeys(("method", "data", "recipe", "device"), EVIL)
    names["classifier"] = f"{EVIL}|a"
    odd = {"attack": {"steps": EVIL}, "x": {EVIL: EVIL, "`": "```"}}
    found = {"check": EVIL, "severity": "low", "saw": {EVIL: 1.0}, "means": EVIL, "next": EVIL}
    given = [
        row(**names, attack=f"{EVIL}|b", view=EVIL, parameters=odd),
        row(**names, attack=WORST_CASE, findings=[found], parameters=odd),
        curved([0.9, 0.1], **names, view=EVIL),
    ]
    truth = [EVIL, '"><img src=x>']
    picture = {"truth": truth, "bare_adv": truth, "method": EVIL, "attack": EVIL, "view": EVIL}
    page, markdown = written(tmp_path, run_folder(tmp_path / "run", given, **picture))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert all(about["src"].startswith("data:") for tag, about in page.tags if tag == "img")
    assert page.text.count(EVIL) > 20
    outside = re.sub(r"^```json$.*?^```$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside and "<img" not in outside
    for block in outside.split("\n\n"):
        if block.startswith("| "):
            widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1


def test_several_runs_are_shown_together(tmp_path: Path) -> None:
    first = run_folder(tmp_path / "a" / "run", rows(), eps=0.3)
    second = run_folder(tmp_path / "b" / "run", rows(seed=1), eps=0.3)
    page, markdown = written(tmp_path, first, second, first / "results.json")
    assert runs.joined(runs.read([first, second])) == rows() + rows(seed=1)
    assert results.read(tmp_path / "out" / "results.json") == runs.joined(
        runs.read([first, second])
    )
    sheets = {f"{name}.ape_gan.pgd.eot(20).0a1b2c3d.png" for name in ("run", "run~2")}
    assert {path.name for path in (tmp_path / "out" / "pictures").iterdir()} == sheets
    assert "run run~2" in page.text and "Recipe of run~2" in markdown


def test_a_run_can_hold_its_own_report(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows(), eps=0.3)
    before = (run / "results.json").read_bytes()
    write_report([run], run)
    assert (run / "report.html").exists()
    assert (run / "results.json").read_bytes() == before


def test_a_report_on_several_runs_overwrites_no_run(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path / name, rows(seed=i)) for i, name in enumerate("abc")]
    (folders[0] / "recipe.json").unlink()
    for folder in (folders[0], folders[2]):
        with pytest.raises(ValueError, match="give another folder"):
            write_report(folders[:2], folder)
        assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    "fault", [[(0.0, 1.2), (0.3, 0.1)], [(0.0, 0.9)], [(-1.0, 1.0), (0.0, 0.0)]]
)
def test_an_impossible_curve_is_refused(tmp_path: Path, fault: list[tuple[float, float]]) -> None:
    run = run_folder(tmp_path / "run", [row(curve=fault)])
    with pytest.raises(ValueError, match=r"results\.json: \$\[0\]\.curve"):
        runs.read([run])


def test_sources_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one run folder"):
        runs.read([])
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; give a run folder"):
        runs.read([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match=r"results\.json; `spearshield"):
        runs.read([tmp_path])
    run = run_folder(tmp_path / "run", [])
    with pytest.raises(ValueError, match=r"results\.json has no rows"):
        runs.read([run])
    (run / "results.json").write_text("[{")
    with pytest.raises(ValueError, match=r"results\.json is not JSON"):
        runs.read([run])
    run = run_folder(tmp_path / "run", [row(robust_acc=float("nan"))])
    with pytest.raises(ValueError, match=r"results\.json is not JSON: NaN is no"):
        runs.read([run])
    run = run_folder(tmp_path / "run", rows())
    (run / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match=r"recipe\.json is not JSON"):
        runs.read([run])


def test_a_report_is_written_to_a_folder_only(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows())
    with pytest.raises(ValueError, match=r"results\.json is a file; a report needs a folder"):
        write_report([run], run / "results.json")


def test_names_of_files_that_are_not_utf_8_are_shown_as_escapes(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        first = run_folder(odd, rows(), eps=0.3)
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    page, markdown = written(tmp_path, first, run_folder(tmp_path / "b", rows(seed=1)))
    assert "Recipe of caf\\udce9" in page.text and "pictures/caf%E9." in markdown


def test_torch_is_never_imported(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows(), eps=0.3)
    code = (
        "import sys; from pathlib import Path; from spearshield.report import write_report; "
        "write_report([Path(sys.argv[1])], Path(sys.argv[2])); "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'spearshield.judging.evaluation')))"
    )
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", code, run, out], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (out / "report.html").exists()
