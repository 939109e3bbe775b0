"""PGD adversarial training: the images of the training, and the schedules."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from fixtures.trainings import Recorder
from spearshield.adversary import Attack
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.attacks.rand_fgsm import RandFGSM
from spearshield.dataset import Examples
from spearshield.method import Task
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.rng import Rng
from spearshield.threat import Linf
from spearshield.training.classifier_training import scaled
from spearshield.training.loop import Training, train


@dataclass(frozen=True)
class Brighter(Attack):
    def perturb(self, model, x, y, rng):
        return x + self.threat.eps


def learner(attack, **settings):
    network = Recorder().eval()
    return PGDAdversarialTraining(**settings).learner(Task(network, network, (1, 4, 4), 2, attack))


def test_the_classifier_is_trained_on_adversarial_images_only():
    trained = learner(Brighter(Linf(0.2)))
    x = torch.full((3, 1, 4, 4), 0.5)
    trained.step(x, torch.tensor([0, 1, 0]), rng=Rng.of_batch(0, 3))
    assert len(trained.classifier.shown) == 1
    torch.testing.assert_close(trained.classifier.shown[0], x + 0.2)


def test_eps_and_lengths_of_steps_are_scaled_together():
    whole = PGD(Linf(0.2), steps=3, step_size=0.1)
    assert scaled(whole, 0.5) == PGD(Linf(0.1), steps=3, step_size=0.05)
    assert scaled(RandFGSM(Linf(0.2), alpha=0.05), 0.5) == RandFGSM(Linf(0.1), alpha=0.025)
    assert scaled(PGD(Linf(0.2)), 0.5) == PGD(Linf(0.1))


def test_eps_grows_over_the_warmup_steps():
    trained = learner(Brighter(Linf(0.2)), warmup_steps=3)
    x = torch.full((3, 1, 4, 4), 0.5)
    for _ in range(5):
        trained.step(x, torch.tensor([0, 1, 0]), rng=Rng.of_batch(0, 3))
    sizes = torch.stack([shown[0, 0, 0, 0] - 0.5 for shown in trained.classifier.shown])
    torch.testing.assert_close(sizes, torch.tensor([0.05, 0.10, 0.15, 0.20, 0.20]))


def test_a_growing_eps_needs_images_that_are_attacked_at_each_step(monkeypatch):
    """The refusal comes before any image is attacked."""
    network = Recorder().eval()
    attack = Brighter(Linf(0.1))
    task = Task(network, network, (1, 4, 4), 2, attack)
    pixels = torch.full((8, 1, 4, 4), 127, dtype=torch.uint8)
    examples = Examples.of(pixels, torch.arange(8) % 2, ("a", "b"))
    once = Training(PGDAdversarialTraining(), 2, attack, batch_size=4, precompute=True)
    train(once, task, lambda: examples, seed=0)
    growing = replace(once, method=PGDAdversarialTraining(warmup_steps=3))
    monkeypatch.setattr(Brighter, "perturb", None)
    with pytest.raises(ValueError, match="set warmup_steps=0 or precompute=false"):
        train(growing, task, lambda: examples, seed=0)


def test_the_learning_rate_is_constant_and_then_decays():
    trained = learner(Brighter(Linf(0.2)), lr=1.0, hold_steps=2, decay_steps=2)
    rates = []
    for _ in range(5):
        trained.step(torch.full((1, 1, 4, 4), 0.5), torch.tensor([0]), rng=Rng.of_batch(0, 1))
        rates.append(trained.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([1, 1, 1, 0.5, 0])


def test_the_attack_uses_the_current_weights():
    """On a linear model FGSM's perturbation is the sign of the weights."""
    trained = learner(FGSM(Linf(0.1)))
    x, y = torch.full((2, 1, 4, 4), 0.5), torch.tensor([1, 1])
    trained.step(x, y, rng=Rng.of_batch(0, 2))
    with torch.no_grad():
        trained.classifier.model.w.neg_()
    trained.step(x, y, rng=Rng.of_batch(0, 2))
    first, second = trained.classifier.shown
    moved = (first - x).abs() > 0
    torch.testing.assert_close((second - x)[moved], -(first - x)[moved])


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match="warmup_steps must be at least 0, got -1"):
        PGDAdversarialTraining(warmup_steps=-1)
