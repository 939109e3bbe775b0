"""JPEG: images compressed and decoded.

Dziugaite, Ghahramani, Roy, "A study of the effect of JPG compression on adversarial images", 2016,
https://arxiv.org/abs/1608.00853; also in Guo, Rana, Cisse, van der Maaten, "Countering Adversarial
Images using Input Transformations", 2018, https://arxiv.org/abs/1711.00117.

    x_hat = decode(encode(x, quality))

Pillow compresses and decodes. The differentiable approximation for BPDA computes the same steps in
torch: colours, half the resolution of the two colour channels, cosine transform of blocks of 8 x 8
pixels, division by Pillow's own tables, and back. Rounding of a coefficient t is replaced by
round(t) + (t - round(t))^3, after Shin, Song, "JPEG-resistant Adversarial Images", 2017.

Differences from the paper. None known. The quality is a setting; 75 is the default of Pillow.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from spearshield.method import Paper, Task
from spearshield.ranges import require
from spearshield.training.transformation import ArrayPurifier, Transformation
from spearshield.types import Images

BLOCK = 8
"""Side of a block of the cosine transform, in pixels."""

YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""Luminance and two colour channels of red, green and blue: ITU-T T.871."""


@dataclass(frozen=True)
class JPEG(Transformation):
    """JPEG compression of every image.

    Args:
        quality: Pillow's quality, from 1 to 95.

    Raises:
        ValueError: ``quality`` is out of range. At the start of training: the images have neither
            one nor three channels.
    """

    paper = Paper(
        "A study of the effect of JPG compression on adversarial images",
        "Dziugaite, Gintare Karolina and Ghahramani, Zoubin and Roy, Daniel M.",
        2016,
        "https://arxiv.org/abs/1608.00853",
    )

    quality: int = 75

    def __post_init__(self) -> None:
        require(self, "quality", at_least=1, at_most=95)

    def purifier(self, task: Task) -> Compression:
        if task.shape[0] not in (1, 3):
            raise ValueError(f"JPEG images have 1 or 3 channels, got {task.shape[0]}")
        return Compression(self.quality)


class Compression(ArrayPurifier):
    """JPEG compression by Pillow, and an approximation in torch."""

    def __init__(self, quality: int) -> None:
        super().__init__()
        self.quality = quality

    def purified(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        bytes_ = (255 * image).round().astype(np.uint8)
        decoded = Image.open(encoded(bytes_, self.quality), formats=("JPEG",))
        return np.asarray(decoded, np.float32).reshape(image.shape) / np.float32(255)

    def differentiable_approximation(self, x: Images) -> Images:
        """The same steps, with a smooth function in place of rounding."""
        h, w = x.shape[2:]
        side = BLOCK if x.shape[1] == 1 else 2 * BLOCK
        x = pad(x, (0, -w % side, 0, -h % side), mode="replicate")
        luminance, colour = tables(self.quality)
        if x.shape[1] == 1:
            x_hat = quantised(255 * x - 128, luminance) + 128
        else:
            matrix = torch.tensor(YCBCR, dtype=x.dtype, device=x.device)
            planes = torch.einsum("ij,njhw->nihw", matrix, 255 * x)
            y = quantised(planes[:, :1] - 128, luminance) + 128
            halved = quantised(avg_pool2d(planes[:, 1:], 2), colour)
            both = torch.cat([y, interpolate(halved, scale_factor=2, mode="bilinear")], 1)
            x_hat = torch.einsum("ij,njhw->nihw", torch.linalg.inv(matrix), both)
        return (x_hat / 255).clamp(0, 1)[:, :, :h, :w]


def encoded(image: NDArray[np.uint8], quality: int) -> io.BytesIO:
    """A JPEG file of an image of shape (h, w, 1) or (h, w, 3)."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(
        file, "JPEG", quality=quality
    )
    file.seek(0)
    return file


@cache
def tables(quality: int) -> tuple[Tensor, Tensor]:
    """Pillow's divisors of the coefficients of luminance and of colour, of shape (8, 8)."""
    grey = np.zeros((BLOCK, BLOCK, 3), np.uint8)
    found = Image.open(encoded(grey, quality), formats=("JPEG",)).quantization  # type: ignore[attr-defined]
    luminance, colour = (torch.tensor(found[i]).view(BLOCK, BLOCK).float() for i in (0, 1))
    return luminance, colour


def quantised(planes: Tensor, table: Tensor) -> Tensor:
    """Planes of shape (n, c, h, w) whose blocks' coefficients are softly rounded."""
    n, c, h, w = planes.shape
    transform = cosines().to(planes)
    blocks = planes.view(n, c, h // BLOCK, BLOCK, w // BLOCK, BLOCK).transpose(3, 4)
    divisors = table.to(planes)
    t = (transform @ blocks @ transform.T) / divisors
    whole = t.detach().round()
    t = whole + (t - whole) ** 3
    blocks = transform.T @ (t * divisors) @ transform
    return blocks.transpose(3, 4).reshape(n, c, h, w)


@cache
def cosines() -> Tensor:
    """The orthogonal matrix of the cosine transform of 8 values."""
    k, i = torch.arange(BLOCK)[:, None], torch.arange(BLOCK)[None]
    matrix = torch.cos(math.pi * k * (2 * i + 1) / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix
