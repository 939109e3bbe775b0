"""Total variation minimisation: smoother images, and the missing package."""

from __future__ import annotations

import sys

import pytest
import torch

from spearshield.method import Task
from spearshield.methods.total_variation import TotalVariation
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


def test_a_uniform_image_stays():
    x = torch.full((1, 1, 12, 12), 0.4)
    torch.testing.assert_close(TotalVariation().purifier(TASK)(x), x)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.restoration", None)
    with pytest.raises(ValueError, match=r"skimage\.restoration could not be imported"):
        TotalVariation().purifier(TASK)
    with pytest.raises(ValueError, match=r"weight must be above 0, got 0\.0"):
        TotalVariation(0.0)
