"""Cropping and rescaling: the whole image, places of the crop, and its draws."""

from __future__ import annotations

import pytest
import torch

from mutations import fails_under
from spearshield.method import Task
from spearshield.methods.crop_rescale import CropRescale, RandomCrop
from spearshield.rng import Rng, ambient

TASK = Task(torch.nn.Identity(), torch.nn.Identity(), (1, 4, 4), 2)


def test_the_whole_image_stays():
    with ambient(0):
        x = torch.rand(2, 3, 9, 12)
    torch.testing.assert_close(RandomCrop(1.0)(x), x, atol=1e-5, rtol=0)


@fails_under(
    "always the same place",
    (Rng, "uniform", lambda self, shape, low=0.0, high=1.0: torch.zeros(len(self.ids), *shape)),
)
def test_it_enlarges_a_part_of_the_image():
    """In an image whose pixels are their column, a crop spans ``share`` of the columns."""
    x = torch.linspace(0, 0.99, 41).expand(64, 1, 41, 41).clone()
    x += torch.linspace(0, 0.01, 64)[:, None, None, None]  # other pixels, so other draws
    crops = CropRescale(0.5).purifier(TASK)(x)
    span = crops[:, 0, 0, -1] - crops[:, 0, 0, 0]
    assert (span > 0.45).all() and (span < 0.51).all()
    starts = crops[:, 0, 0, 0]
    assert starts.min() < 0.1 and starts.max() > 0.4


def test_draws_differ_and_repeat():
    with ambient(1):
        x = torch.rand(4, 1, 16, 16)
    crop = RandomCrop(0.7)
    assert torch.equal(crop(x), crop(x))
    assert not torch.allclose(crop(x), crop(x, draw=1))


def test_the_share_is_checked():
    with pytest.raises(ValueError, match=r"share must be at most 1, got 1\.5"):
        CropRescale(1.5)
