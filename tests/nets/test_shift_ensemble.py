"""The mean of the logits over shifts, by hand; as the result of a training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spearshield.method import Task
from spearshield.methods.standard_training import StandardTraining
from spearshield.nets.shift_ensemble import ShiftEnsemble
from spearshield.rng import Rng, ambient


class Pixel(nn.Module):
    """Two logits: the pixel at row 1, column 1, and the sum of the image."""

    def forward(self, x):
        return torch.stack([x[:, 0, 1, 1], x.sum((1, 2, 3))], 1)


def test_the_mean_over_the_shifts_by_hand():
    x = torch.arange(9.0).view(1, 1, 3, 3)
    inside = torch.tensor([0.0 + 1 + 3 + 4])  # what a shift by one leaves of the image
    logits = ShiftEnsemble(Pixel(), 1)(x)
    torch.testing.assert_close(logits, torch.tensor([[(4.0 + 0) / 2, (36 + inside.item()) / 2]]))
    logits = ShiftEnsemble(Pixel(), 2)(x)
    torch.testing.assert_close(logits, torch.tensor([[4.0 / 3, (36 + 8 + 0) / 3]]))


def test_a_training_yields_it_and_trains_the_same_weights():
    with ambient(0):
        network = nn.Sequential(nn.Flatten(), nn.Linear(9, 3))
    task = Task(network, network, (1, 3, 3), 3)
    x, y = torch.rand(6, 1, 3, 3, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
    results = []
    for shift in (0, 1):
        learner = StandardTraining(average=0.9, ensemble_shift=shift).learner(task)
        for _ in range(3):
            learner.step(x, y, rng=Rng(0, torch.arange(6)))
        results.append(learner.outcome().classifier)
    single, ensemble = results
    assert not ensemble.training and not ensemble.classifier.training
    moved = torch.zeros_like(x)
    moved[:, :, 1:, 1:] = x[:, :, :-1, :-1]
    torch.testing.assert_close(ensemble(x), (single(x) + single(moved)) / 2)


def test_a_negative_shift_raises():
    with pytest.raises(ValueError, match="ensemble_shift must be at least 0, got -1"):
        StandardTraining(ensemble_shift=-1)
