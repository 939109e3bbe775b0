"""Feature space: distances and directions on classifiers whose features are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spearshield as ss
from mutations import fails_under
from spearshield.judging import feature_space
from spearshield.judging.feature_space import FeatureSpace
from spearshield.report import pictures


def classifier():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()


X = torch.full((25, 1, 2, 2), 0.5)


@fails_under(
    "features that ignore the image",
    (feature_space, "features_seen", lambda network, x: torch.ones(len(x), 4)),
)
def test_distances_are_relative_to_the_clean_features():
    # The features are the pixels: norm 1. The attack moves one pixel by 0.4, the purifier by -0.2.
    x_adv, x_hat = X.clone(), X.clone()
    x_adv[:, 0, 0, 0] += 0.4
    x_hat[:, 0, 0, 0] += 0.2
    attacked, purified = FeatureSpace.of(classifier(), X, x_adv, x_hat).distances
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
    inner = feature_space.features_seen

    def watched(network, x):
        sizes.append(len(x))
        return inner(network, x)

    monkeypatch.setattr(feature_space, "features_seen", watched)
    FeatureSpace.of(classifier(), X, X, X)
    assert max(sizes) <= 10 and sum(sizes) == 75


class Odd(nn.Module):
    """A classifier that names its argument, and whose features are not finite on bright images."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(input=torch.where(x > 0.9, torch.nan, x).flatten(1))


def test_features_that_are_not_finite_have_no_plane():
    assert FeatureSpace.of(Odd().eval(), X, X, X).finite
    assert not FeatureSpace.of(Odd().eval(), X, X + 0.45, X).finite


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("form", ["plain", "scripted", "odd"])
def test_an_audit_of_any_classifier_behind_a_purifier_keeps_its_pictures(tmp_path, form):
    forms = {"plain": classifier, "scripted": lambda: torch.jit.script(classifier()), "odd": Odd}
    network = forms[form]().eval()
    x = torch.rand(12, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    report = ss.audit(
        network,
        x,
        torch.arange(12) % 3,
        purifier=lambda images: images.clamp(0.1, 0.8),
        threat=ss.Linf(0.2),
        attacks="fgsm",
        views="adaptive",
        folder=tmp_path / "audit",
        progress=False,
    )
    assert report.worst.images == 12
    (path,) = (tmp_path / "audit" / "pictures").iterdir()
    assert (pictures.read(path).features is None) == (form == "odd")  # whose features are NaN
