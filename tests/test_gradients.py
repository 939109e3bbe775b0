"""Gradients: cut graphs, and pixels whose gradient is not finite."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from spearshield.adversary import NoGradientError, NonFiniteGradientWarning
from spearshield.gradients import finite, gradients, one_warning, passes_gradient, recording


def test_the_gradient_of_each_input():
    x, z = torch.full((2, 3), 2.0).requires_grad_(), torch.ones(2).requires_grad_()
    for again in (True, False):
        by_x, by_z = gradients(x.square().sum(1) * z, x, z, again=again)
        assert torch.equal(by_x, 2 * x) and torch.equal(by_z, torch.full((2,), 12.0))


def test_no_gradient_is_an_error_even_if_another_input_has_one():
    x, z = torch.ones(2).requires_grad_(), torch.ones(2).requires_grad_()
    for value, inputs in ((x.detach(), (x,)), (x, (z,)), (x, (x, z))):
        with pytest.raises(NoGradientError, match="cuts the graph"):
            gradients(value, *inputs)


def test_numpy_in_a_model_is_a_cut_graph_and_other_errors_stay():
    with pytest.raises(NoGradientError, match="cuts the graph"), recording():
        torch.ones(2).requires_grad_().numpy()
    with pytest.raises(RuntimeError, match="elsewhere"), recording():
        raise RuntimeError("elsewhere")


def test_a_model_passes_a_gradient_unless_it_cuts_the_graph():
    x = torch.full((2, 1, 2, 2), 0.5)
    models = {
        "sound": lambda x: x.flatten(1),
        "zero": lambda x: x.round().flatten(1),
        "detached": lambda x: x.detach().flatten(1),
        "NumPy": lambda x: torch.from_numpy(x.numpy()).flatten(1),
    }
    with torch.no_grad():
        passing = {name: passes_gradient(model, x) for name, model in models.items()}
    assert passing == {"sound": True, "zero": True, "detached": False, "NumPy": False}
    assert not x.requires_grad


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_only_pixels_that_are_not_finite_become_zero(value):
    gradient = torch.arange(12.0).reshape(3, 1, 2, 2)
    assert finite(gradient) is gradient
    broken = gradient.clone()
    broken[2, 0, 1, 1] = value
    with pytest.warns(NonFiniteGradientWarning, match="1 pixel gradients"):
        repaired = finite(broken)
    broken[2, 0, 1, 1] = 0
    assert torch.equal(repaired, broken)


def test_one_warning_for_nested_blocks():
    broken = torch.tensor([math.nan, 1.0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with one_warning():
            finite(broken)
            with one_warning():
                finite(broken)
            assert not caught
    assert [str(w.message)[:17] for w in caught] == ["2 pixel gradients"]


def test_no_warning_after_an_error():
    with pytest.raises(ZeroDivisionError), one_warning():
        finite(torch.tensor([math.nan]))
        raise ZeroDivisionError
    with one_warning():
        finite(torch.ones(1))


def test_a_sum_that_overflows_leaves_finite_gradients_alone():
    gradient = torch.full((1, 1, 2, 2), 3e38)
    assert gradient.sum().isinf() and finite(gradient) is gradient
    opposite = torch.tensor([[[[torch.inf, -torch.inf, 1.0]]]])
    with pytest.warns(NonFiniteGradientWarning, match="2 pixel"):
        assert finite(opposite).tolist() == [[[[0.0, 0.0, 1.0]]]]
