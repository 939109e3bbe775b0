"""L2L: the attacker's input and sum of calls, and the two losses."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.losses.kl import kl_divergence
from spearshield.method import Task
from spearshield.methods.l2l import L2L
from spearshield.rng import Rng, ambient
from spearshield.threat import Linf
from spearshield.training.guided_attack import GuidedAttack

SHAPE = (1, 4, 4)


def learner(**settings):
    with ambient(0):
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
        return L2L(Linf(0.2), width=8, **settings).learner(Task(network, network, SHAPE, 3))


def batch(n=6):
    x = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(n) % 3


class Echo(torch.nn.Module):
    """Returns the gradient that it is given, which makes a step of steepest ascent."""

    def forward(self, x, gradient):
        return gradient.sign()


@fails_under("sum that is not projected", (Linf, "project", lambda self, x_adv, x: x_adv))
def test_calls_add_up_inside_the_threat_model():
    attack = GuidedAttack(Linf(0.1), Echo().eval(), calls=2)
    x, y = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 1])
    once = GuidedAttack(Linf(0.1), Echo().eval())(HalfSpace(), x, y)
    torch.testing.assert_close(attack(HalfSpace(), x, y), once)  # projected
    seen = []

    class Half(Echo):
        def forward(self, x, gradient):
            seen.append(x.clone())
            return gradient.sign() / 2

    twice = GuidedAttack(Linf(0.1), Half().eval(), calls=2)(HalfSpace(), x, y)
    torch.testing.assert_close(twice, once)
    torch.testing.assert_close(seen[1], (x + once) / 2)


def test_gradients_are_scaled_for_each_image():
    seen = []

    class Keep(Echo):
        def forward(self, x, gradient):
            seen.append(gradient.abs().amax((1, 2, 3)))
            return gradient

    x, y = batch()
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
    GuidedAttack(Linf(0.1), Keep().eval())(network, x, y)
    torch.testing.assert_close(seen[0], torch.ones(6))


@pytest.mark.parametrize("loss", ["trades", "cross_entropy"])
def test_the_attacker_learns_to_increase_the_loss(loss):
    trained = learner(loss=loss, lr=0.0, attacker_lr=0.01)
    x, y = batch()

    def damage():
        classifier, attack = trained.classifier, trained.outcome().attack
        logits = classifier(attack.images(classifier, x, y))
        if loss == "trades":
            return kl_divergence(classifier(x), logits).mean().item()
        return cross_entropy(logits, y).item()

    before = damage()
    for _ in range(30):
        trained.step(x, y, rng=Rng.of_batch(0, 6))
    assert damage() > before


def test_trades_without_weight_is_standard_training():
    trained = learner(beta=0.0, optimiser="sgd", lr=0.1)
    x, y = batch()
    before = [weight.clone().requires_grad_() for weight in trained.classifier.parameters()]
    loss = cross_entropy(x.flatten(1) @ before[0].T + before[1], y)
    slopes = torch.autograd.grad(loss, before)
    trained.step(x, y, rng=Rng.of_batch(0, 6))
    for weight, old, slope in zip(trained.classifier.parameters(), before, slopes, strict=True):
        torch.testing.assert_close(weight, old - 0.1 * slope)


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match="calls must be at least 1, got 0"):
        L2L(calls=0)
