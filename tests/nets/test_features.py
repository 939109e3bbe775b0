"""Penultimate features: the input of the last layer that runs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fixtures.models import HalfSpace
from spearshield.nets.features import features_of

X = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Unordered(nn.Module):
    """A classifier whose last layer is registered first, and that pools to one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)
        self.body = nn.Conv2d(1, 3, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        self.pooled = self.body(x).mean((2, 3), keepdim=True)
        return self.head(self.dropout(self.pooled)).flatten(1)


def test_the_last_layer_is_the_one_that_runs_last():
    model = Unordered()
    features, logits = features_of(model, X)
    torch.testing.assert_close(features, model.pooled.flatten(1))
    torch.testing.assert_close(logits, model.eval()(X))


def test_mode_and_hooks_are_left_as_they_were_and_weights_get_no_gradient():
    model = Unordered().train()
    x = X.clone().requires_grad_()
    features, _ = features_of(model, x)
    features.sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert model.training and model.dropout.training
    assert all(weight.grad is None for weight in model.parameters())
    assert not model.head._forward_pre_hooks and not model.body._forward_pre_hooks


def test_a_layer_on_something_else_than_the_images_is_not_the_last_one():
    class WithTable(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.table = nn.Linear(16, 3), nn.Linear(7, 3)

        def forward(self, x):
            return self.linear(x.flatten(1)) + self.table(torch.ones(1, 7))

    features, _ = features_of(WithTable(), X)
    torch.testing.assert_close(features, X.flatten(1))


def test_without_layers_the_logits_are_the_features():
    features, logits = features_of(HalfSpace(), X)
    assert features is logits or torch.equal(features, logits)


@pytest.mark.parametrize("n", [1, 3])
def test_the_features_of_an_image_do_not_depend_on_its_batch(n):
    model = Unordered()
    torch.testing.assert_close(features_of(model, X)[0][:n], features_of(model, X[:n])[0])
