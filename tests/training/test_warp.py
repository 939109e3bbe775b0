"""Warps: the angle, the size and the shifts of images, and their reversal."""

from __future__ import annotations

import math

import pytest
import torch

from mutations import fails_under
from spearshield.rng import Rng
from spearshield.training.augmentation import Augmentation
from spearshield.training.warp import Warp

N = 300
RNG = Rng.of_batch(0, N)


def blob(h=29, w=29, down=0.0, right=0.0, tall=5.0, wide=2.0):
    """A smooth bright spot, longer in one direction."""
    rows = torch.arange(h)[:, None] - (h - 1) / 2 - down
    columns = torch.arange(w)[None] - (w - 1) / 2 - right
    return torch.exp(-((rows / tall) ** 2) - (columns / wide) ** 2).expand(N, 1, h, w)


def moments(images):
    """Centre and second moments of the brightness, in pixels."""
    weight = images[:, 0] / images.sum((1, 2, 3))[:, None, None]
    rows = torch.arange(images.shape[2]).float()[None, :, None]
    columns = torch.arange(images.shape[3]).float()[None, None, :]
    down, right = (weight * rows).sum((1, 2)), (weight * columns).sum((1, 2))
    rows, columns = rows - down[:, None, None], columns - right[:, None, None]
    second = [(weight * a * b).sum((1, 2)) for a, b in ((rows, rows), (rows, columns))]
    return down, right, *second, (weight * columns * columns).sum((1, 2))


@pytest.mark.parametrize("size", [(29, 29), (33, 25)])
def test_rotation_turns_an_image_by_angles_up_to_the_largest(size):
    warp = Warp(rotation=20.0, zoom=0.0, elastic=0.0, contrast=1.0, share=1.0)
    _, _, tall, both, wide = moments(warp(blob(*size), RNG))
    angles = 0.5 * torch.atan2(2 * both, tall - wide) * 180 / math.pi
    assert angles.abs().max() < 20.5 and angles.max() > 18 and angles.min() < -18
    # A rotation keeps the lengths of the axes.
    torch.testing.assert_close(tall + wide, (tall + wide).mean().expand(N), rtol=0.02, atol=0)


def test_zoom_changes_the_size_by_up_to_the_share():
    warp = Warp(rotation=0.0, zoom=0.2, elastic=0.0, contrast=1.0, share=1.0)
    _, _, tall, _, _ = moments(warp(blob(), RNG))
    sizes = (tall / moments(blob())[2]).sqrt()
    assert sizes.max() < 1.22 and sizes.max() > 1.15 and sizes.min() > 0.78 and sizes.min() < 0.85


def test_elastic_shifts_are_local_and_have_the_standard_deviation_at_the_nodes():
    warp = Warp(rotation=0.0, zoom=0.0, elastic=0.5, contrast=1.0, share=1.0)
    corner = warp(blob(down=-9.0, right=-9.0, tall=1.2, wide=1.2), RNG)
    middle = warp(blob(tall=1.2, wide=1.2), RNG)
    shift = moments(corner)[0] - 5
    assert shift.std() == pytest.approx(0.4, abs=0.15)
    assert torch.corrcoef(torch.stack([shift, moments(middle)[0]]))[0, 1].abs() < 0.2


@fails_under("undo that does nothing", (Warp, "undo", lambda self, values, rng: values))
def test_undo_nearly_restores_what_was_moved():
    warp = Warp(share=1.0)
    values = blob(down=3.0) - 0.3 * blob(right=4.0)
    away = warp.move(values, RNG)
    back = warp.undo(away, RNG)
    assert (back - values).abs().mean() < 0.2 * (away - values).abs().mean()


def test_a_share_of_the_images_is_warped_and_images_stay_in_range():
    x = torch.rand(N, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    warped = Warp(share=0.25)(x, RNG)
    assert warped.min() >= 0 and warped.max() <= 1
    assert (warped != x).flatten(1).any(1).float().mean() == pytest.approx(0.25, abs=0.08)


def test_contrast_makes_up_for_the_blur_of_interpolation():
    x = (blob(tall=6.0, wide=4.0) > 0.5).float()

    def grey(contrast):
        warped = Warp(contrast=contrast, share=1.0)(x, RNG)
        return ((warped > 0.2) & (warped < 0.8)).float().mean()

    assert grey(1.5) < 0.8 * grey(1.0)


def test_an_image_is_warped_alike_in_every_batch_and_after_a_shift():
    x, augmentation = blob(), Augmentation(2, flip=True, warp=Warp())
    torch.testing.assert_close(augmentation(x, RNG)[7:9], augmentation(x[7:9], RNG[7:9]))
    back = augmentation.undo(augmentation.move(x, RNG), RNG)
    assert (back - x).abs().mean() < 0.01


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"zoom": 1.0}, "zoom must be below 1"),
        ({"rotation": -1.0}, "rotation must be at least 0"),
        ({"share": 1.5}, "share must be at most 1"),
    ],
)
def test_settings_out_of_range_raise(setting, message):
    with pytest.raises(ValueError, match=message):
        Warp(**setting)
