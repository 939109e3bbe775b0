"""The mean of the logits, by hand, with weights of their own."""

from __future__ import annotations

import pytest
import torch

from mutations import fails_under
from spearshield.classifiers import ensemble
from spearshield.classifiers.ensemble import Ensemble
from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.rng import ambient


@fails_under(
    "the sum of the logits",
    (ensemble.Members, "__len__", lambda self: 1),
)
def test_the_logits_are_the_mean_of_different_networks():
    with ambient(0):
        network = Ensemble(SmallCNN(), 3).build((1, 12, 12), 5).eval()
        x = torch.rand(4, 1, 12, 12)
    each = torch.stack([child(x) for child in network.children()])
    assert each.shape == (3, 4, 5) and not torch.allclose(each[0], each[1])
    torch.testing.assert_close(network(x), each.mean(0))


def test_all_members_are_trained():
    network = Ensemble(SmallCNN(), 2).build((1, 12, 12), 3)
    network(torch.rand(2, 1, 12, 12)).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in network.parameters())


def test_no_member_raises():
    with pytest.raises(ValueError, match="members must be at least 1, got 0"):
        Ensemble(members=0)
