"""GAN adversarial training: the game, the regulariser against its definition, the pixel scale."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from mutations import fails_under
from spearshield.method import Task
from spearshield.methods import gan_adversarial_training
from spearshield.methods.gan_adversarial_training import (
    GANAdversarialLearner,
    GANAdversarialTraining,
)
from spearshield.nets.transductive import Transductive
from spearshield.rng import Rng, ambient
from spearshield.threat import Linf

SHAPE = (1, 8, 8)


class Smooth(torch.nn.Module):
    """A classifier without kinks, so that finite differences are exact to second order."""

    def __init__(self, scale=1.0, shift=0.0):
        super().__init__()
        self.scale, self.shift = scale, shift
        self.body = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)
        )

    def forward(self, x):
        return self.body(self.scale * x + self.shift)


def learner(network=None, **settings) -> GANAdversarialLearner:
    with ambient(0):
        network = network or Smooth().eval()
        method = GANAdversarialTraining(**{"width": 4, "threat": Linf(0.2), **settings})
        return method.learner(Task(network, network, SHAPE, 3))


def batch(n=6):
    x = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(n) % 3


def test_the_generator_increases_the_loss_of_the_classifier():
    trained = learner(lr=0.0, gamma=0.0, generator_steps=40, generator_lr=0.05)
    x, y = batch()
    before = trained.f(x, y).item()
    trained.step(x, y, rng=Rng.of_batch(0, 6))
    assert trained.f(x, y).item() > before + 0.02


def test_the_perturbation_stays_in_the_threat_model():
    trained = learner(warmup_steps=3)
    x, y = batch()
    assert (trained.G(x, share=0.25) - x).abs().max() <= 0.05 + 1e-6
    outcome = trained.outcome()
    assert trained.method.threat.contains(outcome.attack(outcome.classifier, x, y), x).all()
    assert outcome.is_defence


@fails_under(
    "reward in place of the penalty",
    (
        gan_adversarial_training.GANAdversarialTraining,
        "__post_init__",
        lambda self: object.__setattr__(self, "regulariser", "reward"),
    ),
)
def test_the_penalty_adds_the_gradient_of_half_the_squared_gradient():
    """The finite difference against automatic differentiation of 1/2 |gradient in phi|^2."""
    gamma = 0.5
    with_penalty = learner(gamma=gamma, regulariser="penalty", lr=0.01, generator_lr=0.0)
    without = learner(gamma=0.0, lr=0.01, generator_lr=0.0)
    x, y = batch()
    with ambient(1):  # without batch normalisation
        body = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.Tanh())
    with_penalty.G.body = without.G.body = body
    classifier, phi = with_penalty.classifier, list(body.parameters())
    f = cross_entropy(classifier(with_penalty.G(x)), y)
    slopes = torch.autograd.grad(f, phi, create_graph=True)
    half_square = torch.stack([slope.square().sum() for slope in slopes]).sum() / 2
    exact = torch.autograd.grad(half_square, list(classifier.parameters()))
    gradients = []
    for trained in (with_penalty, without):
        trained.step(x, y, rng=Rng.of_batch(0, 6))
        gradients.append([weight.grad.clone() for weight in trained.classifier.parameters()])
    found = torch.cat([((a - b) / gamma).flatten() for a, b in zip(*gradients, strict=True)])
    expected = torch.cat([one.flatten() for one in exact])
    assert expected.norm() > 1e-4
    assert torch.nn.functional.cosine_similarity(found, expected, 0) > 0.9
    assert 0.7 < found.norm() / expected.norm() < 1.4


def test_the_step_of_the_finite_difference_does_not_decay():
    trained = learner(lr=0.02, decay_steps=2)
    for _ in range(2):
        assert trained.h == pytest.approx(0.002)
        trained.step(*batch(), rng=Rng.of_batch(0, 6))
    assert trained.decay == pytest.approx(0.0)


def test_eps_on_0_to_1_is_half_of_eps_on_minus_1_to_1():
    """The paper's code has pixels in [-1, 1] and eps 0.6; the same game has eps 0.3 on [0, 1]."""
    scaled = Smooth(2.0, -1.0).eval()
    trained = learner(scaled, threat=Linf(0.3), gamma=0.0, optimiser="sgd", lr=0.1)
    generator = copy.deepcopy(trained.G.body)
    classifier = copy.deepcopy(trained.classifier.body)
    opt_d = torch.optim.SGD(classifier.parameters(), 0.1, 0.9)
    opt_g = torch.optim.SGD(generator.parameters(), 0.01, 0.9)
    x, y = batch()
    wide = 2 * x - 1

    def perturbed():
        return (wide + 0.6 * generator(wide)).clamp(-1, 1)

    for _ in range(3):
        trained.step(x, y, rng=Rng.of_batch(0, 6))
        for _ in range(5):
            opt_g.zero_grad()
            (-cross_entropy(classifier(perturbed()), y)).backward()
            opt_g.step()
        loss = sum(cross_entropy(classifier(part), y) for part in (wide, perturbed().detach()))
        opt_d.zero_grad()
        loss.backward()
        opt_d.step()
    for mine, theirs in zip(
        trained.classifier.body.parameters(), classifier.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_transductive_logits_depend_on_the_batch_and_frozen_logits_do_not():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(144, 3),
    ).eval()
    x, _ = batch()
    transductive = Transductive(network)
    torch.testing.assert_close(network(x)[:2], network(x[:2]))
    assert (transductive(x)[:2] - transductive(x[:2])).abs().max() > 0.01
    assert network[1].running_mean is not None


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match="generator_steps must be at least 1, got 0"):
        GANAdversarialTraining(generator_steps=0)
    with pytest.raises(ValueError, match="finite difference, which needs float32"):
        GANAdversarialTraining(precision="bfloat16")
