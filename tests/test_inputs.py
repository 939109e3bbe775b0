"""The arguments of attacks: budget and model. All attacks: see tests/contracts."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from torch import nn

from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield import inputs
from spearshield.inputs import check_budget, guarded, rounded_size
from spearshield.threat import L2, Linf


def test_the_largest_budget_is_the_distance_from_black_to_white():
    x = torch.zeros(1, 1, 8, 8)
    check_budget(L2(8.0), x)
    check_budget(Linf(1.0), x)
    with pytest.raises(ValueError, match=r"L2 128 .* at most 8 apart; .* L2\(128 / 255\)"):
        check_budget(L2(128.0), x)


def test_a_guarded_module_is_itself_and_loses_its_hooks_after_an_error():
    model = HalfSpace()
    with pytest.raises(ZeroDivisionError), guarded(model) as same:
        assert same is model and model._forward_hooks
        raise ZeroDivisionError
    assert not model._forward_hooks and not model._forward_pre_hooks


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_module_is_guarded_as_a_function():
    model = torch.jit.trace(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 1, 2, 2))
    x = torch.ones(3, 1, 2, 2)
    with guarded(model, dtype=torch.float64) as function:
        assert torch.equal(function(x), model(x).double())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_images_take_the_dtype_of_the_weights_and_logits_that_of_the_images(kind):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).to(kind)
    x = torch.ones(3, 1, 2, 2)
    with guarded(model) as same:
        logits = same(x)
    assert torch.equal(logits, model(x.to(kind)).float())


def test_weights_of_several_dtypes_leave_the_conversion_to_the_model():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor(0.5))
            self.linear = nn.Linear(4, 2).double()

        def forward(self, x):
            assert x.dtype == torch.float32
            return self.linear((x - self.mean).flatten(1).double())

    with guarded(Mixed()) as model:
        assert model(torch.ones(3, 1, 2, 2)).dtype == torch.float32


def test_every_label_needs_a_logit(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model, x = HalfSpace(), torch.zeros(2, 1, 4, 4)
    with guarded(model, torch.tensor([0, 1])) as same:
        same(x)
    with (
        guarded(model, torch.tensor([0, 2])) as same,
        pytest.raises(ValueError, match="label 2 is out of range: the model has 2 classes"),
    ):
        same(x)


@fails_under("padding counts", (inputs._Guard, "logits", lambda self, returned: returned))
def test_batches_are_filled_up_to_few_sizes_without_effect():
    sizes = set()

    def model(x):
        sizes.add(len(x))
        return torch.stack([x.flatten(1).sum(1), x.flatten(1).square().sum(1)], 1)

    x = torch.rand(250, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    with guarded(model, torch.zeros(250, dtype=torch.long)) as guard:
        for count in range(1, 251):
            part = x[:count].clone().requires_grad_()
            logits = guard(part)
            assert len(logits) == count
            (gradient,) = torch.autograd.grad(logits[:, 1].sum(), part)
            torch.testing.assert_close(gradient, 2 * x[:count])
    assert len(sizes) <= 64 and max(sizes) == 250


@pytest.mark.parametrize("whole", [1, 2, 16, 100, 128, 250, 1000])
def test_rounded_sizes_are_few_and_near(whole):
    sizes = [rounded_size(count, whole) for count in range(1, whole + 1)]
    assert sizes[-1] == whole and len(set(sizes)) <= 64
    assert all(0 <= size - count < max(1, whole / 32) for count, size in enumerate(sizes, 1))
    assert rounded_size(5 * whole + 1, whole) == 5 * whole + 1
