"""Total variation minimisation: smoother images, and the missing package."""

from __future__ import annotations

import sys

import pytest
import torch

from mutations import fails_under
from spearshield.method import Task
from spearshield.methods import total_variation
from spearshield.methods.total_variation import Smoothing, TotalVariation
from spearshield.rng import ambient

TASK = Task(torch.nn.Identity(), torch.nn.Identity(), (1, 4, 4), 2)

pytest.importorskip("skimage", reason="scikit-image is not installed")


def variation(x):
    return (x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()).item()


def test_more_weight_gives_smoother_images_of_the_same_brightness():
    with ambient(0):
        x = (0.5 + 0.2 * torch.randn(2, 3, 20, 24)).clamp(0, 1)
    images = [x] + [TotalVariation(weight).purifier(TASK)(x) for weight in (0.02, 0.1, 0.5)]
    found = [variation(image) for image in images]
    assert found == sorted(found, reverse=True) and found[-1] < 0.3 * found[0]
    assert all(abs(image.mean() - x.mean()) < 0.01 for image in images)


def objective(z, x, weight):
    """What the result minimises, as the docstring of the method states it."""
    down, right = torch.zeros_like(z), torch.zeros_like(z)
    down[:, :, :-1], right[:, :, :, :-1] = z.diff(dim=2), z.diff(dim=3)
    variation = (down.square() + right.square()).sqrt().sum()
    return float((z - x).square().sum() / 2 + weight * variation)


@fails_under(
    "twice the weight",
    (total_variation, "Smoothing", lambda weight: Smoothing(2 * weight)),
    weight=0.1,
)
@pytest.mark.parametrize("weight", [0.02, 0.1])
def test_the_objective_is_larger_at_neighbours_of_the_result(weight):
    with ambient(0):
        x = (0.5 + 0.2 * torch.randn(2, 3, 20, 24)).clamp(0, 1)
        noise = 0.01 * torch.randn_like(x)
    z, *others = (TotalVariation(weight * share).purifier(TASK)(x) for share in (1, 0.8, 1.25))
    neighbours = [*others, z + noise, x + 0.9 * (z - x), x + 1.1 * (z - x)]
    found = objective(z, x, weight)
    assert all(objective(other, x, weight) > 1.0005 * found for other in neighbours)


def test_a_uniform_image_stays():
    x = torch.full((1, 1, 12, 12), 0.4)
    torch.testing.assert_close(TotalVariation().purifier(TASK)(x), x)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.restoration", None)
    with pytest.raises(ValueError, match=r"skimage\.restoration could not be imported"):
        TotalVariation().purifier(TASK)
    with pytest.raises(ValueError, match=r"weight must be above 0, got 0\.0"):
        TotalVariation(0.0)
