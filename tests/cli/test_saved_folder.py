"""The command `show` on a folder: what it holds and needs, from its card or recipe alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spearshield.cli import main

CARD = {
    "format": 1,
    "kind": "shield",
    "name": "ape_gan",
    "training": {"type": "a:Training", "method": {"type": "b:APEGAN", "width": 4}},
    "threat": {"type": "spearshield.threat:Linf", "eps": 0.1},
    "shape": [1, 8, 8],
    "names": ["cat", "dog"],
    "classifier": {"name": "Net", "architecture": None},
    "measured": {"verdict": "not examined"},
}
BUILT = {"name": "lenet", "architecture": {"type": "spearshield.classifiers.lenet:LeNet"}}


def shown(folder: Path, capsys: pytest.CaptureFixture[str], status: int = 0) -> str:
    assert main(["show", str(folder)]) == status
    return "".join(capsys.readouterr())


def test_a_shield_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "card.json").write_text(json.dumps(CARD))
    page = shown(tmp_path, capsys)
    for words in (
        "holds a saved shield",
        "Linf 0.1",
        "[1, 8, 8]",
        "cat, dog",
        "Net; pass it with --classifier, except to purify",
        "weights.safetensors is missing; copy the folder again",
    ):
        assert words in page
    (tmp_path / "card.json").write_text(json.dumps(CARD | {"classifier": BUILT}))
    (tmp_path / "weights.safetensors").write_bytes(b"")
    page = shown(tmp_path, capsys)
    assert "lenet, which this package builds" in page and "missing" not in page


def test_a_run_lists_its_finished_trainings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {"name": "mine", "recipe": {"classifier": {"type": "x:LeNet"}}}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    for name in ("dae", "standard_training"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").write_bytes(b"")
    page = shown(tmp_path, capsys)
    assert "holds a run" in page and "dae, standard_training" in page and "LeNet" in page


@pytest.mark.parametrize("value", [5, [], {}, "x" * 10**5, None, {"type": []}])
def test_any_content_is_shown_or_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: object
) -> None:
    for field in CARD:
        (tmp_path / "card.json").write_text(json.dumps(CARD | {field: value}))
        assert max(map(len, shown(tmp_path, capsys).splitlines())) < 300
    if not isinstance(value, dict):
        (tmp_path / "card.json").write_text(json.dumps(value))
        assert "card.json holds a JSON" in shown(tmp_path, capsys, 2)
