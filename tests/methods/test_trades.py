"""TRADES: its loss by hand, and the images that maximise the divergence."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import Affine, HalfSpace
from fixtures.trainings import Recorder
from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.losses import kl
from spearshield.losses.kl import kl_divergence
from spearshield.method import Task
from spearshield.methods.trades import TRADES
from spearshield.rng import Rng
from spearshield.threat import L2, Linf


def learner(threat, network=None, **settings):
    network = (network or Recorder()).eval()
    return TRADES(**settings).learner(Task(network, network, (1, 4, 4), 2, FGSM(threat)))


def backwards(q, p, **options):
    return torch.nn.functional.kl_div(p, q, **options)


@fails_under("divergence of the clean predictions", (kl, "kl_div", backwards))
@fails_under(
    "clean predictions without gradient",
    (kl, "kl_div", lambda q, p, **o: torch.nn.functional.kl_div(q, p.detach(), **o)),
)
def test_the_step_minimises_the_loss_of_the_paper():
    x, y = Rng.of_batch(2, 6).uniform((1, 4, 4), 0.3, 0.7), torch.arange(6) % 2
    trained = learner(Linf(0.1), optimiser="sgd", lr=1.0, beta=3.0)
    trained.step(x, y, rng=Rng.of_batch(0, 6))
    clean, x_adv = trained.classifier.shown
    assert torch.equal(clean, x)

    model = HalfSpace()
    p, q = model(x).softmax(1), model(x_adv).softmax(1)
    natural = -p[torch.arange(6), y].log().mean()
    robust = (p * (p / q).log()).sum(1).mean()
    gradient = torch.autograd.grad(natural + 3 * robust, model.w)[0]
    torch.testing.assert_close(trained.classifier.model.w, model.w - gradient)


def test_the_images_maximise_the_divergence_inside_the_threat_model():
    """On a linear model of two classes the maximum is at one of the two corners along the sign."""
    model, threat = HalfSpace(), Linf(0.1)
    x, y = Rng.of_batch(2, 6).uniform((1, 4, 4), 0.3, 0.7), torch.arange(6) % 2
    trained = learner(threat)
    trained.step(x, y, rng=Rng.of_batch(0, 6))
    x_adv = trained.classifier.shown[1]
    corners = [x + sign * 0.1 * model.w.sign() for sign in (-1, 1)]
    gains = torch.stack([kl_divergence(model(x), model(corner)) for corner in corners])
    reached = kl_divergence(model(x), model(x_adv))
    away = torch.stack([(x_adv - corner).abs().amax((1, 2, 3)) for corner in corners])
    assert (away.amin(0) < 1e-6).all()
    assert (reached >= gains.amin(0) - 1e-6).all() and (reached > 0.01).all()


def test_the_images_do_not_depend_on_the_labels():
    x, rng = Rng.of_batch(2, 6).uniform((1, 4, 4)), Rng.of_batch(0, 6)
    trained = learner(L2(0.5), Affine(3))
    shown = [
        trained.most_divergent(x, torch.full((6,), label), L2(0.5), rng).detach()
        for label in (0, 1)
    ]
    assert torch.equal(*shown)
    assert ((shown[0] - x).flatten(1).norm(dim=1) <= 0.5 + 1e-5).all()


def test_the_first_batch_has_the_first_share_of_eps_and_of_the_step():
    x, y, rng = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 1]), Rng.of_batch(3, 2)
    growing = learner(Linf(0.2), warmup_steps=3, steps=1, step_size=0.16)
    growing.step(x, y, rng=rng)
    moved = (growing.classifier.shown[1] - x).abs()
    torch.testing.assert_close(moved.mean(), torch.tensor(0.04), atol=0.002, rtol=0)


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match="beta must be at least 0, got -1.0"):
        TRADES(beta=-1.0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        TRADES(steps=0)
