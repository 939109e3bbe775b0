"""Learned starting points: the shared backward pass, noise, several generators, replay."""

from __future__ import annotations

import math

import pytest
import torch

from mutations import fails_under
from spearshield.adversary import loss_gradient
from spearshield.losses.margin import LOSSES
from spearshield.method import Task
from spearshield.methods.learned_adversary import LearnedAdversary, LearnedAdversaryLearner
from spearshield.rng import Rng, ambient
from spearshield.threat import Linf

SHAPE = (1, 8, 8)


class Recorder(torch.nn.Module):
    """A linear classifier that keeps its inputs in training mode."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(64, 3)
        self.shown = []

    def forward(self, x):
        if self.training:
            self.shown.append(x.detach().clone())
        return self.linear(x.flatten(1))


def learner(**settings) -> LearnedAdversaryLearner:
    with ambient(0):
        network = Recorder().eval()
        method = LearnedAdversary(Linf(0.2), width=4, **settings)
        return method.learner(Task(network, network, SHAPE, 3))


def batch(n=8):
    x = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(n) % 3


@fails_under("no gradient step", (Linf, "step", lambda self, x_adv, x, gradient, length: x_adv))
def test_the_images_are_one_gradient_step_from_the_starting_points():
    trained = learner(noise=False, step_size=0.5, generator_lr=0.0)
    x, y = batch()
    rng = Rng.of_batch(0, 8)
    start = trained.start(x, rng).detach()
    gradient = loss_gradient(trained.attacked(), start, y, LOSSES["cross_entropy"]).gradient
    expected = (x + (start + 0.1 * gradient.sign() - x).clamp(-0.2, 0.2)).clamp(0, 1)
    trained.step(x, y, rng=rng)
    torch.testing.assert_close(trained.classifier.shown[0], expected)


def test_both_players_train_on_the_hardest_images():
    trained = learner(noise=False, gradient_steps=0, generator_lr=0.0, hardest=0.25)
    x, y = batch()
    rng = Rng.of_batch(0, 8)
    start = trained.start(x, rng).detach()
    losses = LOSSES["cross_entropy"](trained.attacked()(start), y)
    trained.step(x, y, rng=rng)
    (shown,) = trained.classifier.shown
    hard = losses.topk(2).indices
    assert len(shown) == 2
    assert ((shown - x[hard]).abs() <= 0.2 + 1e-6).all()


def test_noise_and_generators_give_an_image_other_starting_points():
    x = torch.full((8, *SHAPE), 0.5)
    same = learner(noise=False).start(x, Rng.of_batch(0, 8))
    torch.testing.assert_close(same, same[:1].expand_as(same))
    for settings in ({"noise": True}, {"noise": False, "generators": 3}):
        start = learner(**settings).start(x, Rng.of_batch(0, 8))
        assert len({round(value, 5) for value in start[:, 0, 3, 3].tolist()}) > 1


def test_the_attack_gives_the_same_image_the_same_perturbation():
    attack = learner(generators=2).outcome().attack
    x, y = batch()
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()
    torch.testing.assert_close(attack(model, x, y)[3:5], attack(model, x[3:5], y[3:5]))


def test_earlier_generators_are_copies():
    trained = learner(replay=2, replay_every=2, noise=False, generator_lr=0.01)
    x, y = batch()
    for _ in range(2):
        trained.step(x, y, rng=Rng.of_batch(0, 8))
    kept = [weight.clone() for weight in trained.G.networks[0].parameters()]
    trained.step(x, y, rng=Rng.of_batch(0, 8))
    assert all(map(torch.equal, trained.earlier.networks[0].parameters(), kept))
    assert not all(map(torch.equal, trained.G.networks[0].parameters(), kept))


def idle(generators) -> None:
    """Make networks that return their input."""
    for network in generators.networks:
        for weight in network.body[-2].parameters():
            torch.nn.init.zeros_(weight)


def replayed(trained, x, rng) -> torch.Tensor:
    """True for images that an earlier copy starts; copies must be idle."""
    return (trained.start(x, rng) == x).flatten(1).all(1)


@fails_under(
    "halves by position in the batch",
    (Rng, "integers", lambda self, shape, high: torch.arange(len(self.ids)) % high),
)
def test_an_image_is_started_by_a_copy_or_not_in_every_batch():
    """Its place changes where only the hardest images are trained on."""
    trained = learner(replay=2, replay_every=2)
    trained.taken += 2
    idle(trained.earlier)
    (x, _), rng = batch(64), Rng.of_batch(0, 64)
    of_copies = replayed(trained, x, rng)
    assert 20 <= int(of_copies.sum()) <= 44
    hard = torch.randperm(64, generator=torch.Generator().manual_seed(1))[:16]
    assert torch.equal(replayed(trained, x[hard], rng[hard]), of_copies[hard])


@pytest.mark.parametrize("generators", [1, 2])
def test_a_batch_may_come_from_earlier_copies_alone(generators):
    trained = learner(replay=2, replay_every=2, generators=generators)
    trained.taken += 2
    idle(trained.earlier)
    (x, y), rng = batch(64), Rng.of_batch(0, 64)
    of_copies = replayed(trained, x, rng)
    losses = trained.step(x[of_copies], y[of_copies], rng=rng[of_copies])
    assert all(map(math.isfinite, losses.values()))
    assert all(weight.isfinite().all() for weight in trained.G.parameters())


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match="generators must be at least 1, got 0"):
        LearnedAdversary(generators=0)
