"""results.json: reading restores the written rows; a violation of the schema names the field."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from spearshield.judging import results
from spearshield.judging.provenance import Provenance
from spearshield.judging.score import Score

VERSIONS = {"python": "3.12.1", "spearshield": "0.1.0", "torch": "2.13.0"}
PROVENANCE = Provenance(None, None, "d" * 64, "e" * 64, VERSIONS, "cpu", "2026-11-26T09:20:42Z")


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
        normalised_l2=torch.tensor([0.1, 0.2, 0.3, 0.4]),
        ssim=torch.full((4,), 0.9),
        clean_margin=-torch.ones(4),
        adv_margin=torch.ones(4),
        clean_draws=labels[:, None],
        adv_draws=labels[:, None],
        clean_detection=torch.empty(4, 0),
        adv_detection=torch.empty(4, 0),
        seconds=2.0,
        forwards=40,
    )
    return results.row(
        score,
        PROVENANCE,
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
        parameters={"attack": {"steps": 3}},
    )


def test_a_row_holds_the_rates_of_its_score():
    made = row()
    assert (made.images, made.acc, made.robust_acc) == (4, 1.0, 0.5)
    assert (made.asr, made.dsr) == (0.0, None)
    assert made.l2 == 2.5 and made.seconds_per_image == 0.5 and made.forwards_per_image == 10
    assert made.interval[0] < 0.5 < made.interval[1]
    assert made.versions == VERSIONS and made.device == "cpu" and not made.reused


def test_reading_restores_the_written_rows(tmp_path):
    path = tmp_path / "results.json"
    rows = [row(), replace(row(), **LATER)]
    path.write_text(json.dumps(results.to_json(rows)))
    assert results.read(path) == rows


def test_fields_with_a_default_may_be_absent(tmp_path):
    path = tmp_path / "results.json"
    (written,) = results.to_json([row()])
    path.write_text(json.dumps([{k: v for k, v in written.items() if k not in LATER}]))
    unknown = dict.fromkeys(("data_digest", "weights_digest", "created", "repeated"))
    assert results.read(path) == [replace(row(), **unknown)]


FINDING = {"check": "c", "severity": "low", "saw": {"n": 1}, "means": "m", "next": "n"}
LATER = {
    "verdict": "broken",
    "findings": [FINDING],
    "repeated": {"vote": (1.0, 0.5)},
    "rejected": (0.0, 0.5),
    "auc": 0.75,
    "curve": [(0.0, 1.0), (0.1, 0.5)],
    "command": "spearshield run r",
    "commit": "c" * 40,
    "data_digest": "d" * 64,
    "weights_digest": "e" * 64,
    "created": "2026-11-26T09:20:42Z",
    "reused": True,
}
"""The fields that files of earlier versions do not have."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"robust_acc": 1.5}, r"\$\[0\]\.robust_acc 1\.5"),
        ({"view": ""}, r"\$\[0\]\.view"),
        ({"eps": 0.0}, r"\$\[0\]\.eps"),
        ({"images": 0}, r"\$\[0\]\.images"),
        ({"split": "tset"}, r"\$\[0\]\.split"),
        ({"auc": 1.5}, r"\$\[0\]\.auc"),
        ({"command": ""}, r"\$\[0\]\.command"),
        ({"created": ""}, r"\$\[0\]\.created"),
        ({"reused": 1}, r"\$\[0\]\.reused"),
        ({"findings": [FINDING | {"severity": "grave"}]}, r"findings\[0\]\.severity"),
        ({"findings": [FINDING | {"extra": 1}]}, r"'extra' was unexpected"),
        ({"versions": {"torch": "2"}}, r"'python' is a required property"),
    ],
)
def test_a_row_that_violates_the_schema_is_not_read(change, message, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{**results.to_json([row()])[0], **change}]))
    with pytest.raises(ValueError, match=rf"results\.json: .*{message}"):
        results.read(path)


def test_a_row_that_violates_the_schema_is_not_written():
    with pytest.raises(ValueError, match=r"the rows: \$\[0\]\.robust_acc 1\.5"):
        results.to_json([replace(row(), robust_acc=1.5)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[NaN]", "NaN is not a number"),
        ('{"a": 1}', "is not of type 'array'"),
        ("[{}]", "required property"),
    ],
)
def test_an_invalid_file_is_named(tmp_path, text, message):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"results\.json.*{message}"):
        results.read(path)
    with pytest.raises(FileNotFoundError, match="spearshield run"):
        results.read(tmp_path / "none.json")
