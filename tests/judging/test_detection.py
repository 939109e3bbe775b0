"""Victims that reject images: their scores, their attacks and their findings."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fixtures.models import Fence, HalfSpace
from judging.test_battery import both, taking_part
from judging.test_score import score
from mutations import fails_under
from spearshield.adversary import Attack
from spearshield.attacks.orthogonal_pgd import OrthogonalPGD
from spearshield.attacks.pgd import PGD
from spearshield.cli.file_tools import purify
from spearshield.dataset import Examples
from spearshield.experiment.overrides import parse
from spearshield.judging import answers
from spearshield.judging import score as score_file
from spearshield.judging.checks import compare, comparison
from spearshield.judging.checks.detection import blind_detector
from spearshield.judging.checks.probe import Probe
from spearshield.judging.evaluation import evaluate
from spearshield.judging.provenance import Provenance
from spearshield.judging.results import Row, read, row, to_json
from spearshield.judging.score import REJECTED
from spearshield.judging.trial import Trial
from spearshield.method import Defended, Outcome, RandomPurifier
from spearshield.threat import Linf
from spearshield.views import Adaptive, DetectorAware, View

BALL = Linf(0.1)


class RandomFence(RandomPurifier):
    """Random noise, and the detector of a fence."""

    def __init__(self, limit):
        super().__init__()
        self.fence = Fence(limit)

    def purify(self, x, rng):
        return (x + 1e-4 * rng.normal(x.shape[1:])).clamp(0, 1)

    def detection_score(self, x):
        return self.fence.detection_score(x)


class Raise(Attack):
    """Raises every pixel by the budget."""

    def perturb(self, model, x, y, rng):
        return self.threat.project(x + self.threat.eps, x)


@pytest.fixture
def examples() -> Examples:
    """Four images of class 1; in two of them the last pixel is bright."""
    pixels = torch.full((4, 1, 4, 4), 128, dtype=torch.uint8)
    pixels[:, 0, 3, 3] = torch.tensor([140, 140, 200, 200])
    return Examples.of(pixels, torch.ones(4, dtype=torch.long), ("below", "above"))


def fenced(limit: float, purifier: type[nn.Module] = Fence) -> Defended:
    return Defended(purifier(limit), HalfSpace()).eval()


@fails_under(
    "ignored detection score of the victim",
    (answers, "detection_score", lambda victim, x, draw=0: torch.empty(len(x), 0)),
    purifier=Fence,
)
@pytest.mark.parametrize("purifier", [Fence, RandomFence])
def test_rejecting_is_an_error_on_clean_images_and_right_on_attacked_ones(examples, purifier):
    got = evaluate(fenced(0.6, purifier), Raise(BALL), examples)
    assert got.victim_clean.tolist() == [1, 1, REJECTED, REJECTED]
    assert got.victim_adv.tolist() == [REJECTED] * 4
    assert got.acc == 0.5 and got.robust.tolist() == [True, True, False, False]
    assert got.rejected == (0.5, 1.0) and got.auc == 0.75
    assert got.bare_clean.tolist() == [1] * 4
    if purifier is RandomFence:
        assert got.repeated["worst_of"] == (0.5, 1.0)


@fails_under("rejected images count as broken", (score_file, "_right_or_rejected", torch.eq))
def test_rates_with_rejections_counted_by_hand():
    #            rejected  misclassified  clean rejected
    got = score([0, 0, 0], [0, 0, REJECTED], [REJECTED, 1, 0], [0, 0, 0], [1, 1, 1])
    assert got.acc == 2 / 3 and got.robust_acc == 1 / 3
    assert got.dsr == 2 / 3
    assert got.rejected == (1 / 3, 1 / 3)
    assert score([0], [0], [1], [0], [1]).rejected is None


def test_the_row_holds_the_shares_of_rejected_images(tmp_path, examples):
    got = evaluate(fenced(0.6), Raise(BALL), examples)
    about = dict.fromkeys(("recipe", "data", "classifier", "method", "attack", "view"), "a")
    one = row(
        got,
        Provenance.now("cpu", "d", "w"),
        **about,
        split="test",
        threat="Linf",
        eps=0.1,
        seed=0,
        parameters={},
    )
    (plain,) = to_json([one])
    assert plain["rejected"] == [0.5, 1.0] and plain["auc"] == 0.75
    path = tmp_path / "results.json"
    path.write_text(json.dumps([plain, {**plain, "rejected": None}]))
    again = read(path)
    assert isinstance(again[0], Row)
    assert [r.rejected for r in again] == [(0.5, 1.0), None]


@fails_under(
    "attack on detectors used on every victim",
    (DetectorAware, "applies_to", lambda self, victim: True),
)
@both
def test_attacks_on_detectors_apply_to_detectors_only(name):
    hidden = ("orthogonal_pgd", "detector_aware")
    assert hidden in taking_part(name, Fence(0.6))
    assert hidden not in taking_part(name, nn.Identity())
    assert isinstance(DetectorAware()(fenced(0.6)), Defended)


def test_the_name_of_the_view():
    assert str(DetectorAware()) == DetectorAware.cli_name() == "detector_aware"
    assert parse("detector_aware", View, None, "view") == DetectorAware()


def test_an_attack_that_evades_the_detector_breaks_more(examples):
    victim, wide = fenced(0.56), Linf(0.3)
    dark = replace(examples, y=0 * examples.y, pixels=torch.full_like(examples.pixels, 100))
    naive = evaluate(victim, Raise(wide), dark)
    assert naive.bare_adv.tolist() == [1] * 4 and naive.robust_acc == 1.0
    aware = evaluate(victim, OrthogonalPGD(wide), dark, DetectorAware())
    assert aware.robust_acc == 0.0 and aware.rejected is None


@fails_under(
    "no finding for a detector that no attack evades",
    (comparison, "detector_ignored", lambda results: None),
)
def test_a_detector_that_no_attack_tries_to_evade_is_a_finding(examples):
    got = evaluate(fenced(0.6), PGD(BALL), examples)
    found = compare([(Trial(PGD(BALL, restarts=2), Adaptive()), got)])
    assert {f.check: f.severity for f in found} == {
        "detector_ignored": "high",
        "false_alarms": "note",
    }
    aware = Trial(OrthogonalPGD(BALL), DetectorAware())
    found = compare([(Trial(PGD(BALL), Adaptive()), got), (aware, got)])
    assert [f.check for f in found] == ["false_alarms"]


def test_a_detector_without_a_gradient_is_a_finding(examples):
    class Rounded(Fence):
        def detection_score(self, x):
            return super().detection_score(x.round())

    def severity(purifier):
        victim = Defended(purifier, HalfSpace()).eval()
        found = blind_detector(Probe.of(victim, examples, BALL))
        return found and found.severity

    assert severity(Rounded(0.6)) == "high"
    assert severity(Fence(0.6)) is None
    assert severity(nn.Identity()) is None


def test_the_victim_has_the_detector_of_its_outcome():
    outcome = Outcome(HalfSpace(), Fence(0.6))
    x = torch.full((1, 1, 4, 4), 0.7)
    torch.testing.assert_close(outcome.defended.detection_score(x), torch.tensor([0.1]))
    assert Outcome(HalfSpace()).defended.detection_score(x).tolist() == [-float("inf")]


def test_purified_files_list_the_rejected_images(tmp_path):
    dark, bright = np.full((4, 4), 100, np.uint8), np.full((4, 4), 200, np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(dark).save(tmp_path / "in" / "dark.png")
    Image.fromarray(bright).save(tmp_path / "in" / "bright.png")
    np.savez(tmp_path / "in.npz", x=np.stack([dark, bright]))
    shape, fence = (1, 4, 4), Fence(0.6)
    assert purify(fence, tmp_path / "in", tmp_path / "out", shape, "cpu") == (2, 1)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["dark.png", "rejected.txt"]
    assert (tmp_path / "out" / "rejected.txt").read_text() == "bright.png\n"
    assert purify(fence, tmp_path / "in.npz", tmp_path / "out.npz", shape, "cpu") == (2, 1)
    assert np.load(tmp_path / "out.npz")["rejected"].tolist() == [False, True]
    assert purify(nn.Identity(), tmp_path / "in", tmp_path / "all", shape, "cpu") == (2, 0)
    assert not (tmp_path / "all" / "rejected.txt").exists()
