"""Rounding by hand, and its approximation."""

from __future__ import annotations

import pytest
import torch

from mutations import fails_under
from spearshield.method import Task
from spearshield.methods import bit_depth
from spearshield.methods.bit_depth import BitDepth, Rounding

TASK = Task(torch.nn.Identity(), torch.nn.Identity(), (1, 4, 4), 2)


def test_values_by_hand():
    x = torch.tensor([0.0, 0.2, 0.4, 0.7, 0.9, 1.0]).view(1, 1, 1, -1)
    rounded = Rounding(3)(x)[0, 0, 0]
    torch.testing.assert_close(rounded, torch.tensor([0, 1 / 3, 1 / 3, 2 / 3, 1, 1]))


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_there_are_as_many_levels_as_the_bits_allow(bits):
    x = torch.linspace(0, 1, 4096).view(1, 1, 64, 64)
    assert len(BitDepth(bits).purifier(TASK)(x).unique()) == 2**bits


@fails_under(
    "an approximation of the identity alone",
    (bit_depth.torch, "sin", torch.zeros_like),
)
def test_the_approximation_meets_every_level_and_is_flat_there():
    rounding = Rounding(7)
    levels = (torch.arange(8) / 7).view(1, 1, 1, -1).requires_grad_()
    smooth = rounding.differentiable_approximation(levels)
    torch.testing.assert_close(smooth, levels)
    smooth.sum().backward()
    torch.testing.assert_close(levels.grad, torch.zeros_like(levels), atol=1e-5, rtol=0)
    x = torch.linspace(0, 1, 500).view(1, 1, 1, -1)
    assert (rounding.differentiable_approximation(x) - rounding(x)).abs().max() <= 0.5 / 7 + 1e-6


def test_bits_out_of_range_raise():
    with pytest.raises(ValueError, match="bits must be at most 8, got 9"):
        BitDepth(9)
