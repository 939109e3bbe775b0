"""results.json: rows come back as they were, and what breaks the schema is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from spearshield.judging import results
from spearshield.judging.score import Score


def row() -> results.Row:
    labels = torch.tensor([0, 1, 1, 0])
    score = Score(
        ids=torch.arange(4),
        y=labels,
        victim_clean=labels,
        victim_adv=torch.tensor([0, 1, 0, 1]),
        bare_clean=labels,
        bare_adv=labels,
        l2=torch.tensor([1.0, 2.0, 3.0, 4.0]),
        linf=torch.full((4,), 0.1),
        ssim=torch.full((4,), 0.9),
        clean_draws=labels[:, None],
        adv_draws=labels[:, None],
        clean_detection=torch.empty(4, 0),
        adv_detection=torch.empty(4, 0),
        seconds=2.0,
        forwards=40,
    )
    return results.row(
        score,
        recipe="r",
        data="digits",
        split="test",
        classifier="lenet",
        method="none",
        attack="pgd",
        threat="Linf",
        eps=0.1,
        view="adaptive",
        seed=0,
        device="cpu",
        parameters={"attack": {"steps": 3}},
    )


def test_a_row_says_what_the_score_says():
    made = row()
    assert (made.images, made.acc, made.robust_acc) == (4, 1.0, 0.5)
    assert (made.asr, made.dsr) == (0.0, None)
    assert made.l2 == 2.5 and made.seconds_per_image == 0.5 and made.forwards_per_image == 10
    assert made.interval[0] < 0.5 < made.interval[1]
    assert {"spearshield", "torch", "python"} <= made.versions.keys()


def test_rows_come_back_as_they_were(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results.to_json([row(), row()])))
    assert results.read(path) == [row(), row()]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"robust_acc": 1.5}, r"\$\[0\]\.robust_acc 1\.5"),
        ({"view": ""}, r"\$\[0\]\.view"),
        ({"eps": 0.0}, r"\$\[0\]\.eps"),
        ({"images": 0}, r"\$\[0\]\.images"),
        ({"split": "tset"}, r"\$\[0\]\.split"),
    ],
)
def test_a_row_that_breaks_the_schema_is_not_written(change, said):
    with pytest.raises(ValueError, match=said):
        results.to_json([replace(row(), **change)])


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "is not JSON"), ('{"a": 1}', "is not of type 'array'"), ("[{}]", "required property")],
)
def test_a_file_that_is_no_result_names_itself(tmp_path, text, said):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"results\.json.*{said}"):
        results.read(path)
    with pytest.raises(FileNotFoundError, match="spearshield run"):
        results.read(tmp_path / "none.json")
