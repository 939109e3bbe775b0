"""FGSM-RS: the training images by hand, on a linear model."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import HalfSpace
from fixtures.trainings import Recorder
from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.method import Task
from spearshield.methods.fgsm_rs import FGSMRS
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

EPS = 0.2


def learner(threat, **settings):
    network = Recorder().eval()
    return FGSMRS(**settings).learner(Task(network, network, (1, 4, 4), 2, FGSM(threat)))


@fails_under("no projection", (Linf, "clip", lambda self, delta: delta))
@fails_under("no random start", (Linf, "sample_perturbation", lambda self, x, rng: 0 * x))
def test_a_uniform_start_and_one_longer_step_are_projected():
    x, y, rng = torch.full((4, 1, 4, 4), 0.1), torch.tensor([0, 1, 0, 1]), Rng.of_batch(3, 4)
    trained = learner(Linf(EPS))
    trained.step(x, y, rng=rng)

    # The loss of class 1 grows against w, of class 0 along w.
    direction = (1 - 2 * y)[:, None, None, None] * HalfSpace().w.detach().sign()
    delta = rng.uniform((1, 4, 4), -EPS, EPS) + 1.25 * EPS * direction
    expected = (x + delta.clamp(-EPS, EPS)).clamp(0, 1)
    torch.testing.assert_close(trained.classifier.shown[0], expected)


def test_start_and_step_grow_with_eps():
    x, y, rng = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 1]), Rng.of_batch(3, 2)
    growing, small = learner(Linf(EPS), warmup_steps=3), learner(Linf(EPS / 4))
    for trained in (growing, small):
        trained.step(x, y, rng=rng)
    torch.testing.assert_close(growing.classifier.shown[0], small.classifier.shown[0])


def test_images_stay_in_other_norms():
    x, y = torch.full((8, 1, 4, 4), 0.5), torch.arange(8) % 2
    trained = learner(L2(0.7))
    trained.step(x, y, rng=Rng.of_batch(0, 8))
    sizes = (trained.classifier.shown[0] - x).flatten(1).norm(dim=1)
    assert (sizes <= 0.7 + 1e-5).all() and sizes.mean() > 0.6


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match="alpha must be above 0, got 0.0"):
        FGSMRS(alpha=0.0)
