"""JPEG: the file that Pillow writes, and the approximation in torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from mutations import fails_under
from spearshield.method import Task
from spearshield.methods import jpeg
from spearshield.methods.jpeg import JPEG, Compression, cosines
from spearshield.rng import ambient


def smooth_images(channels, h=40, w=28):
    """Images that change slowly, as photographs do."""
    with ambient(0):
        return interpolate(torch.rand(3, channels, 6, 5), (h, w), mode="bicubic").clamp(0, 1)


def task(channels):
    network = torch.nn.Identity()
    return Task(network, network, (channels, 40, 28), 2)


def rounded(planes, table):
    """The same with the rounding of a real encoder."""
    n, c, h, w = planes.shape
    blocks = planes.view(n, c, h // 8, 8, w // 8, 8).transpose(3, 4)
    t = ((cosines() @ blocks @ cosines().T) / table).round() * table
    return (cosines().T @ t @ cosines()).transpose(3, 4).reshape(n, c, h, w)


@fails_under(
    "the blocks of another transform",
    (jpeg, "cosines", lambda: torch.eye(8)),
    channels=1,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_approximation_is_close_to_the_file(channels):
    """Far closer than the image itself, at a low quality."""
    x, compression = smooth_images(channels), Compression(20)
    file = compression(x)
    changed = (file - x).abs().mean()
    approximated = compression.differentiable_approximation(x)
    assert changed > 0.008
    assert (approximated - file).abs().mean() < 0.6 * changed


@pytest.mark.parametrize("channels", [1, 3])
def test_with_real_rounding_it_is_the_file(channels, monkeypatch):
    monkeypatch.setattr(jpeg, "quantised", rounded)
    x = (255 * smooth_images(channels)).round() / 255
    compression = Compression(50)
    difference = (compression.differentiable_approximation(x) - compression(x)).abs()
    assert difference.mean() < 1.5 / 255


def test_a_low_quality_changes_more():
    x = smooth_images(3)
    errors = [(JPEG(q).purifier(task(3))(x) - x).abs().mean() for q in (10, 50, 95)]
    assert errors[0] > errors[1] > errors[2] > 0


def test_the_cosine_transform_is_orthogonal():
    torch.testing.assert_close(cosines() @ cosines().T, torch.eye(8), atol=1e-6, rtol=0)


def test_the_approximation_has_a_gradient():
    x = smooth_images(3).requires_grad_()
    Compression(75).differentiable_approximation(x).square().sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().sum() > 0


def test_unusable_settings_raise():
    with pytest.raises(ValueError, match="quality must be at most 95, got 100"):
        JPEG(100)
    with pytest.raises(ValueError, match="1 or 3 channels, got 4"):
        JPEG().purifier(task(4))
