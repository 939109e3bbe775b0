"""Structural similarity of clean and attacked images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spearshield.types import Images, PerImage

WINDOW = 7
"""Height and width of the window in pixels."""

AT_ONCE = 1 << 16
"""Pixels that are compared at a time, few enough for the cache of a processor."""


@torch.no_grad()
def ssim(x: Images, x_adv: Images) -> PerImage:
    """Structural similarity (SSIM) of each pair, on the CPU: a uniform 7x7 window, data range 1.

    The mean over all windows inside the image and over the channels, with sample covariances and
    the constants 0.01 and 0.03, as in scikit-image. For images smaller than 7 pixels the window is
    the largest odd one that fits. Computed in float64, because the variance is a difference of two
    means.

    Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
    Similarity", 2004, https://doi.org/10.1109/TIP.2003.819861.

    Args:
        x, x_adv: Images in [0, 1] of shape (n, c, h, w).
    """
    images, channels, height, width = x.shape
    planes = max(1, AT_ONCE // (height * width))
    parts = (torch.split(each.flatten(0, 1), planes) for each in (x, x_adv))
    pairs = zip(*parts, strict=True)
    similar = torch.cat([_ssim(a.double(), b.double()) for a, b in pairs])
    return similar.view(images, channels).mean(1).float().cpu()


def _ssim(a: Float[Tensor, "p h w"], b: Float[Tensor, "p h w"]) -> Float[Tensor, " p"]:
    """Structural similarity of each pair of planes."""
    side = min(WINDOW, *a.shape[1:])
    side -= 1 - side % 2
    maps = torch.stack([a, b, a * a + b * b, a * b])
    means = _window_sums(_window_sums(maps, side, 2), side, 3) / side**2
    mean_a, mean_b, squares, product = means.unbind(0)
    mean_squares, mean_product = mean_a**2 + mean_b**2, mean_a * mean_b
    sample = side**2 / max(side**2 - 1, 1)
    variances, covariance = sample * (squares - mean_squares), sample * (product - mean_product)
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_product + c1) * (2 * covariance + c2)
    similar /= (mean_squares + c1) * (variances + c2)
    mean: Tensor = similar.mean((1, 2))
    return mean


def _window_sums(x: Tensor, side: int, dim: int) -> Tensor:
    """The sums over all windows of ``side`` along one axis."""
    count = x.shape[dim] - side + 1
    total = x.narrow(dim, 0, count).clone()
    for start in range(1, side):
        total += x.narrow(dim, start, count)
    return total
