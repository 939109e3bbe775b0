"""The wrapper of classifiers: what it protects its input from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fixtures.models import Apply
from mutations import fails_under
from spearshield.nets.wrapped_classifier import WrappedClassifier


@fails_under("images that are not copied", (torch.Tensor, "clone", lambda x: x), mean=None)
@pytest.mark.parametrize("mean", [None, (0.5,)])
def test_a_network_that_works_in_place_leaves_the_images_alone(mean):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    twins = (Apply(lambda x: linear(x.mul_(2))), Apply(lambda x: linear(2 * x)))
    x = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    before = torch.tensor(x.tolist())
    one, other = (WrappedClassifier(twin, mean, mean)(x) for twin in twins)
    assert torch.equal(one, other) and torch.equal(x, before)


def test_8_bit_images_are_divided_by_255_and_other_whole_numbers_refused():
    pixels = torch.randint(0, 256, (5, 1, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    model = WrappedClassifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), (0.5,), (0.5,))
    x = (pixels.float() / 255).requires_grad_()
    assert torch.equal(model(pixels), model(x)) and torch.equal(model(pixels.numpy()), model(x))
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert gradient.abs().min() > 0
    with pytest.raises(ValueError, match="images are int64; they must be uint8 from 0 to 255"):
        model(pixels.long())
