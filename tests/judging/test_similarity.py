"""SSIM agrees with scikit-image, and has a value for every image."""

from __future__ import annotations

import pytest
import torch

from mutations import fails_under
from spearshield.judging import similarity
from spearshield.judging.similarity import ssim

SHAPES = [(5, 1, 28, 28), (4, 3, 32, 32), (3, 3, 9, 200), (2, 1, 7, 7), (2, 3, 4, 5), (2, 1, 3, 3)]


def pairs(shape):
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.rand(shape, generator=generator)
    return x, (x + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)


@fails_under("windows in one direction", (similarity, "_window_sums", lambda x, side, dim: x))
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_scikit_image(shape):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    x, x_adv = pairs(shape)
    side = min(7, *shape[2:])
    window = side if side % 2 else side - 1
    expected = [
        metrics.structural_similarity(
            a.double().numpy(), b.double().numpy(), win_size=window, channel_axis=0, data_range=1.0
        )
        for a, b in zip(x, x_adv, strict=True)
    ]
    torch.testing.assert_close(
        ssim(x, x_adv), torch.tensor(expected, dtype=torch.float32), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 2, 2), (2, 1, 1, 40), (1, 1, 1, 1)])
def test_one_for_equal_images_and_less_for_others_of_any_size(shape):
    x, x_adv = pairs(shape)
    torch.testing.assert_close(ssim(x, x), torch.ones(len(x)))
    assert (ssim(x, x_adv) < 1).all() and (ssim(x, x_adv) > -1).all()
    torch.testing.assert_close(ssim(x, x_adv), ssim(x_adv, x))


def test_black_against_white_is_nearly_zero():
    black = torch.zeros(1, 1, 8, 8)
    # Only the constants of the formula are left: c1 / (1 + c1).
    torch.testing.assert_close(ssim(black, 1 - black), torch.tensor([1e-4 / (1 + 1e-4)]))


def test_the_number_of_planes_at_a_time_changes_nothing(monkeypatch):
    x, x_adv = pairs((7, 3, 10, 10))
    whole = ssim(x, x_adv)
    monkeypatch.setattr(similarity, "AT_ONCE", 200)
    torch.testing.assert_close(ssim(x, x_adv), whole)
