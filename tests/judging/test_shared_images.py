"""Adversarial images of a bare classifier, made once for all of its purifiers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.judging import shared_images
from spearshield.judging.cached_evaluation import CachedEvaluation, StoredScoreError
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.score import TENSORS
from spearshield.judging.shared_images import SharedImages
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.threat import Linf
from spearshield.views import Adaptive, Oblivious

ATTACK = PGD(Linf(0.1), steps=4, early_stop=False)
UNAWARE = Trial(ATTACK, Oblivious())


class Darken(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x):
        return (x - self.by).clamp(0, 1)


@pytest.fixture
def examples() -> Examples:
    pixels = torch.randint(110, 160, (10, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    x = pixels.to(torch.uint8)
    found = Examples.of(x, HalfSpace()(x.float() / 255).argmax(1), ("below", "above"))
    return found[torch.randperm(10, generator=torch.Generator().manual_seed(1))]


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """The number of images of each call of PGD."""
    found: list[int] = []
    real = PGD.perturb

    def perturb(self, model, x, y, rng):
        found.append(len(x))
        return real(self, model, x, y, rng)

    monkeypatch.setattr(PGD, "perturb", perturb)
    return found


def evaluation(folder, purifier=None, classifier=None, seed=0):
    victim = Defended(purifier or nn.Identity(), classifier or HalfSpace()).eval()
    settings = EvaluationSettings(seed, batch_size=4)
    return CachedEvaluation(victim, type(victim.purifier).__name__, folder, settings, "data")


def test_one_attack_serves_all_purifiers_and_changes_no_score(examples, tmp_path, calls):
    alone = evaluation(tmp_path / "alone", Darken(0.1))(UNAWARE, examples).score
    calls.clear()
    bare = evaluation(tmp_path / "run")(Trial(ATTACK, Adaptive()), examples).score
    assert sum(calls) == 10
    shared = evaluation(tmp_path / "run", Darken(0.1))(UNAWARE, examples).score
    evaluation(tmp_path / "run", Darken(0.2))(UNAWARE, examples)
    assert sum(calls) == 10
    for name in TENSORS:
        assert torch.equal(getattr(alone, name), getattr(shared, name)), name
    assert (shared.forwards, shared.seconds) == (bare.forwards, bare.seconds)


def same_for_all(attack, classifier, examples, folder, seed, device):
    return SharedImages(attack, folder / "same.safetensors", examples)


@fails_under(
    "images that are shared by all attacks, classifiers and seeds",
    (shared_images.SharedImages, "of", staticmethod(same_for_all)),
)
def test_other_attacks_classifiers_images_and_seeds_share_nothing(examples, tmp_path, calls):
    evaluation(tmp_path)(UNAWARE, examples)
    other = HalfSpace()
    with torch.no_grad():
        for weight in other.state_dict().values():
            weight.mul_(1.5)
    for change, count in (
        (lambda: evaluation(tmp_path, Darken(0.1), seed=1)(UNAWARE, examples), 10),
        (lambda: evaluation(tmp_path, Darken(0.1), other)(UNAWARE, examples), 10),
        (lambda: evaluation(tmp_path, Darken(0.1))(UNAWARE, examples[:3]), 3),
        (
            lambda: evaluation(tmp_path, Darken(0.1))(
                Trial(replace(ATTACK, steps=2), Oblivious()), examples
            ),
            10,
        ),
        (lambda: evaluation(tmp_path, Darken(0.1))(Trial(ATTACK, Adaptive()), examples), 10),
    ):
        calls.clear()
        change()
        assert sum(calls) == count


def test_what_is_not_shared(examples, tmp_path, monkeypatch):
    def found(images=examples, classifier=None):
        return SharedImages.of(ATTACK, classifier or HalfSpace(), images, tmp_path, 0, "cpu")

    assert found() is not None
    doubled = Examples(examples.pixels, examples.y, examples.ids * 0, examples.names)
    assert found(doubled) is None
    unknown = HalfSpace()
    unknown.file = (tmp_path / "x").open("w")
    assert found(classifier=unknown) is None
    unknown.file.close()
    monkeypatch.setattr(shared_images, "LARGEST", 4 * examples.pixels.numel() - 1)
    assert found() is None


def test_a_corrupt_file_is_named(examples, tmp_path):
    evaluation(tmp_path)(Trial(ATTACK, Adaptive()), examples)
    (file,) = (tmp_path / "shared_images").iterdir()
    file.write_bytes(b"nothing")
    with pytest.raises(StoredScoreError, match=file.name):
        evaluation(tmp_path, Darken(0.1))(UNAWARE, examples)
