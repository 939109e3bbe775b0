"""Pixel deflection: pixels replaced by neighbours at random, and wavelet denoising.

Prakash, Moran, Garber, DiLillo, Storer, "Deflecting Adversarial Attacks with Pixel Deflection",
2018. https://arxiv.org/abs/1801.08926

    for a share of the pixels:  x[i] = x[j],  j at random in the window around i, in the image
    x_hat = BayesShrink(x)

scikit-image denoises.

Differences from the paper. The paper spares pixels that the activations of the classifier mark as
important; here every pixel is equally likely. All pixels are replaced at once, so a replaced pixel
is never the source of another, and all channels have one source. The default share is 10 pixels
of 32x32 and 502 of 224x224. The denoiser has no gradient; BPDA with the identity attacks it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spearshield.method import Paper, RandomPurifier, Task
from spearshield.nets.external import package
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.transformation import ArrayPurifier, Transformation
from spearshield.types import Images

SCIKIT_IMAGE = "skimage.restoration"


@dataclass(frozen=True)
class PixelDeflection(Transformation):
    """Deflected pixels and wavelet denoising. Needs scikit-image and PyWavelets.

    Args:
        share: Share of the pixels, in [0, 1], that are replaced.
        window: Largest distance of the source of a pixel, in pixels, along rows and columns.
        sigma: Standard deviation of the noise that is assumed, on the [0, 1] pixel scale; 0: no
            denoising.

    Raises:
        ValueError: A number is out of range. At the start of training: a package is missing.
    """

    paper = Paper(
        "Deflecting Adversarial Attacks with Pixel Deflection",
        "Prakash, Aaditya and Moran, Nick and Garber, Solomon and DiLillo, Antonella and Storer, "
        "James",
        2018,
        "https://arxiv.org/abs/1801.08926",
    )

    share: float = 0.01
    window: int = 10
    sigma: float = 0.04

    def __post_init__(self) -> None:
        require(self, "share", at_least=0, at_most=1)
        require(self, "window", at_least=1)
        require(self, "sigma", at_least=0)

    def purifier(self, task: Task) -> Deflection:  # noqa: ARG002
        return Deflection(self.share, self.window, self.sigma)


class Deflection(RandomPurifier):
    """Replaces pixels at random; then a denoiser, if there is one."""

    def __init__(self, share: float, window: int, sigma: float) -> None:
        super().__init__()
        self.share, self.window = share, window
        self.denoiser = WaveletDenoising(sigma) if sigma else None

    def purify(self, x: Images, rng: Rng) -> Images:
        n, _, h, w = x.shape
        replaced = rng.fold(1).uniform((h, w)) < self.share
        draws = rng.fold(0).uniform((2, h, w))
        row, column = torch.arange(h, device=x.device)[:, None], torch.arange(w, device=x.device)
        rows = torch.where(replaced, self.source(row, h, draws[:, 0]), row)
        columns = torch.where(replaced, self.source(column, w, draws[:, 1]), column)
        image = torch.arange(n, device=x.device)[:, None, None]
        deflected = x.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 3, 1, 2)
        return deflected if self.denoiser is None else self.denoiser(deflected)

    def source(self, place: Tensor, side: int, draw: Tensor) -> Tensor:
        """A row or column in the window around ``place`` and in the image, for draws in [0, 1)."""
        first, last = (place - self.window).clamp(min=0), (place + self.window).clamp(max=side - 1)
        return torch.minimum(first + (draw * (last - first + 1)).long(), last)


class WaveletDenoising(ArrayPurifier):
    """BayesShrink of the wavelet coefficients of each image."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma
        for name in ("pywt", SCIKIT_IMAGE):
            package(name)  # raises now, if it is missing

    def purified(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        denoised: NDArray[np.float32] = package(SCIKIT_IMAGE).denoise_wavelet(
            image,
            sigma=self.sigma,
            convert2ycbcr=image.shape[2] == 3,
            method="BayesShrink",
            rescale_sigma=True,
            channel_axis=2,
        )
        return denoised
