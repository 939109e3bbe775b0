"""Feature space: distances and directions on classifiers whose features are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutations import fails_under
from spearshield.judging import feature_space
from spearshield.judging.feature_space import FeatureSpace
from spearshield.method import Defended


class Halfway(nn.Module):
    """A purifier that maps every pixel halfway to 0.5."""

    def forward(self, x):
        return 0.5 + (x - 0.5) / 2


def victim(purifier):
    return Defended(purifier.eval(), nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval())


X = torch.full((25, 1, 2, 2), 0.5)


@fails_under(
    "features of the attacked images, not purified", (Halfway, "forward", lambda self, x: x)
)
def test_distances_are_relative_to_the_clean_features():
    # The features are the pixels: norm 1. The attack moves one pixel by 0.4.
    x_adv = X.clone()
    x_adv[:, 0, 0, 0] += 0.4
    attacked, purified = FeatureSpace.of(victim(Halfway()), X, x_adv).distances
    torch.testing.assert_close(attacked, torch.full((25,), 0.4))
    torch.testing.assert_close(purified, torch.full((25,), 0.2))


def test_the_plane_holds_the_directions_of_the_largest_variance():
    spread = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    clean = spread * torch.tensor([0.1, 5.0, 0.1, 2.0, 0.1]) + 3
    attacked = clean.clone()
    attacked[:, 1] += 10
    plane = FeatureSpace(clean, attacked, clean).plane
    assert plane.shape == (3, 200, 2)
    assert plane[0].std(0).tolist() == pytest.approx([5.0, 2.0], rel=0.15)
    moved = (plane[1] - plane[0]).abs().mean(0)
    assert moved[0] > 9.9 and moved[1] < 1
    torch.testing.assert_close(plane[2], plane[0])


def test_one_feature_has_a_plane_too():
    clean = torch.rand(4, 1)
    assert torch.equal(FeatureSpace(clean, clean, clean).plane[:, :, 1], torch.zeros(3, 4))


def test_images_are_seen_in_small_groups(monkeypatch):
    sizes = []
    inner = feature_space.features_of

    def watched(classifier, x):
        sizes.append(len(x))
        return inner(classifier, x)

    monkeypatch.setattr(feature_space, "features_of", watched)
    FeatureSpace.of(victim(Halfway()), X, X)
    assert max(sizes) <= 10 and sum(sizes) == 75
