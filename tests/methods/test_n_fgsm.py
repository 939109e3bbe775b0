"""N-FGSM: the training images by hand, on a linear model."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import HalfSpace
from fixtures.trainings import Recorder
from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.method import Task
from spearshield.methods.n_fgsm import NFGSM
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

EPS = 0.2


def learner(threat, **settings):
    network = Recorder().eval()
    return NFGSM(**settings).learner(Task(network, network, (1, 4, 4), 2, FGSM(threat)))


@fails_under(
    "noise within the budget",
    (Linf, "sample_perturbation", lambda self, x, rng: rng.uniform(x.shape[1:], -0.1, 0.1)),
)
@fails_under("no step", (Linf, "steepest_step", lambda self, gradient: 0 * gradient))
def test_strong_noise_and_one_step_are_clamped_to_the_range_of_pixels_only():
    x, y, rng = torch.full((4, 1, 4, 4), 0.3), torch.tensor([0, 1, 0, 1]), Rng.of_batch(3, 4)
    trained = learner(Linf(EPS))
    trained.step(x, y, rng=rng)

    # The loss of class 1 grows against w, of class 0 along w.
    direction = (1 - 2 * y)[:, None, None, None] * HalfSpace().w.detach().sign()
    noisy = (x + rng.uniform((1, 4, 4), -2 * EPS, 2 * EPS)).clamp(0, 1)
    expected = (noisy + EPS * direction).clamp(0, 1)
    shown = trained.classifier.shown[0]
    torch.testing.assert_close(shown, expected)
    assert (shown - x).abs().amax() > 2 * EPS


def test_without_noise_it_is_fgsm_of_the_classifier():
    x, y = torch.full((4, 1, 4, 4), 0.5), torch.tensor([0, 1, 0, 1])
    trained = learner(L2(0.6), k=0.0)
    x_adv = FGSM(L2(0.6))(HalfSpace(), x, y)
    trained.step(x, y, rng=Rng.of_batch(0, 4))
    torch.testing.assert_close(trained.classifier.shown[0], x_adv)


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match="k must be at least 0, got -1.0"):
        NFGSM(k=-1.0)
    with pytest.raises(ValueError, match="alpha must be above 0, got 0.0"):
        NFGSM(alpha=0.0)
