"""Optimiser steps and learning-rate schedules, by hand."""

from __future__ import annotations

import pytest
import torch

from spearshield.training.optim import cosine, minimise, set_lr


def test_the_half_cosine():
    assert [cosine(1.0, step, 4) for step in (0, 2, 4, 9)] == pytest.approx([1, 0.5, 0, 0])
    assert cosine(0.3, 10**6, 0) == 0.3
    assert [cosine(1.0, s, 4, hold_steps=3) for s in (0, 3, 5, 7, 9)] == pytest.approx(
        [1, 1, 0.5, 0, 0]
    )


def test_a_step_uses_the_gradient_of_its_own_loss_only():
    value = torch.nn.Parameter(torch.tensor(1.0))
    optimiser = torch.optim.SGD([value], 0.1)
    for expected in (0.8, 0.6):
        minimise(optimiser, 2 * value)
        assert float(value.detach()) == pytest.approx(expected)


def test_the_learning_rate_is_set_in_all_groups():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    first = torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:2]}], 0.1)
    second = torch.optim.SGD(parameters[2:], 0.1)
    set_lr(0.5, first, second)
    assert [g["lr"] for o in (first, second) for g in o.param_groups] == [0.5] * 3
