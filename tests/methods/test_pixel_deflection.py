"""Pixel deflection: which pixels move, how far, and the denoiser."""

from __future__ import annotations

import sys

import pytest
import torch

from spearshield.method import Task
from spearshield.methods.pixel_deflection import Deflection, PixelDeflection
from spearshield.rng import Rng, ambient

TASK = Task(torch.nn.Identity(), torch.nn.Identity(), (1, 4, 4), 2)

skimage = pytest.importorskip("skimage", reason="scikit-image is not installed")
pytest.importorskip("pywt", reason="PyWavelets is not installed")


def test_a_share_of_the_pixels_comes_from_the_window():
    """The pixels of the image are their rows and columns, so a pixel tells where it came from."""
    h, w = 40, 50
    rows = torch.arange(h, dtype=torch.float)[:, None].expand(h, w) / 100
    columns = torch.arange(w, dtype=torch.float).expand(h, w) / 100
    x = torch.stack([rows, columns])[None]
    moved = (Deflection(0.3, 4, 0.0)(x) - x) * 100
    share = (moved.abs().sum(1) > 0.5).float().mean()
    assert 0.25 < share < 0.32
    assert moved.abs().max().round() == 4
    assert (moved.abs().amax((2, 3)).round() == 4).all()


def test_near_the_border_every_pixel_of_the_window_is_equally_likely():
    rows = torch.arange(5.0)[:, None].expand(400, 2, 5, 5) / 10
    deflected = Deflection(1.0, 2, 0.0).purify(rows, Rng.of_batch(0, 400))
    sources = (10 * deflected[:, 0]).round().long()
    for row, window in enumerate(([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4])):
        shares = sources[:, row].flatten().bincount(minlength=5) / 2000
        expected = torch.zeros(5)
        expected[window] = 1 / len(window)
        torch.testing.assert_close(shares, expected, rtol=0, atol=0.05)


def test_the_denoiser_removes_noise():
    with ambient(0):
        noisy = (0.5 + 0.05 * torch.randn(2, 3, 32, 32)).clamp(0, 1)
    purified = PixelDeflection(share=0.0, sigma=0.05).purifier(TASK)(noisy)
    assert (purified - 0.5).square().mean() < 0.25 * (noisy - 0.5).square().mean()


def test_nothing_to_do_changes_nothing():
    with ambient(0):
        x = torch.rand(2, 1, 8, 8)
    assert torch.equal(Deflection(0.0, 3, 0.0)(x), x)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(ValueError, match="pywt could not be imported"):
        PixelDeflection().purifier(TASK)
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        PixelDeflection(window=0)
