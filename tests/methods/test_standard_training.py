"""Standard training: the loss and the learning rate by hand."""

from __future__ import annotations

import math

import pytest
import torch

from spearshield.method import Task
from spearshield.methods.standard_training import StandardTraining
from spearshield.rng import Rng


def flat() -> torch.nn.Module:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    torch.nn.init.zeros_(network[1].weight)
    torch.nn.init.zeros_(network[1].bias)
    return network.eval()


def test_the_loss_and_the_first_update_by_hand():
    learner = StandardTraining(lr=0.1).learner(Task(flat(), flat(), (1, 2, 2), 2))
    x = torch.full((2, 1, 2, 2), 0.5)
    losses = learner.step(x, torch.tensor([0, 0]), rng=Rng.of_batch(0, 2))
    assert losses["cross_entropy"] == pytest.approx(math.log(2))
    # Adam's first step is lr times the sign of the gradient.
    weight = learner.classifier[1].weight.detach()
    torch.testing.assert_close(weight, torch.tensor([[0.1], [-0.1]]).expand(2, 4))


def test_the_learning_rate_follows_the_step():
    learner = StandardTraining(lr=1.0, decay_steps=4).learner(Task(flat(), flat(), (1, 2, 2), 2))
    rates = []
    for _ in range(4):
        learner.step(torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), rng=Rng.of_batch(0, 2))
        rates.append(learner.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)])
