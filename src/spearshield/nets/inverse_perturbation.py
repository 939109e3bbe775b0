"""Generators of inverse perturbations, and the purifiers that add them to an image.

Both generators keep the size of an image and accept images of any size.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spearshield.nets.adv_gan import padded
from spearshield.types import Images, Shape

GROUPS = 8
"""Groups of channels of the normalisation, or fewer for narrow layers."""

LARGE = 96
"""From this height or width on, the layers between two checkpoints are computed twice."""


class InversePerturbation(nn.Module):
    """A residual network that outputs the inverse perturbation of an image, in [-1, 1].

    A convolution, two strided convolutions, residual blocks, two deconvolutions and a convolution
    with a tanh. Normalisation is over groups of channels of one image, so an image is purified
    alike in training, in evaluation and in every batch. The last layer starts at zero: an untrained
    network changes nothing.

    For large images, only the inputs of the parts are kept, and the backward pass computes the
    activations of one part at a time again. So a block adds only its input to the memory: as much
    as ``width / 4`` channels of the image.

    Args:
        channels: Channels of an image.
        width: Channels of the first convolution; the residual blocks have four times as many.
        blocks: Number of residual blocks.
    """

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.parts = nn.ModuleList(
            [
                nn.Sequential(*normalised(nn.Conv2d(channels, width, 3, padding=1), width)),
                nn.Sequential(*normalised(nn.Conv2d(width, 2 * width, 4, 2, 1), 2 * width)),
                nn.Sequential(*normalised(nn.Conv2d(2 * width, 4 * width, 4, 2, 1), 4 * width)),
                *(Block(4 * width) for _ in range(blocks)),
                nn.Sequential(
                    *normalised(nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1), 2 * width)
                ),
                nn.Sequential(*normalised(nn.ConvTranspose2d(2 * width, width, 4, 2, 1), width)),
                nn.Sequential(last, nn.Tanh()),
            ]
        )

    def forward(self, x: Images) -> Images:
        h, w = x.shape[2:]
        maps: Tensor = padded(2 * x - 1)
        twice = max(h, w) >= LARGE and torch.is_grad_enabled()
        for part in self.parts:
            maps = checkpoint(part, maps, use_reentrant=False) if twice else part(maps)
        return maps[:, :, :h, :w]


class Block(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *normalised(nn.Conv2d(width, width, 3, padding=1), width),
            nn.Conv2d(width, width, 3, padding=1),
            normalisation(width),
        )

    def forward(self, maps: Tensor) -> Tensor:
        output: Tensor = maps + self.body(maps)
        return output


def normalised(layer: nn.Module, width: int) -> list[nn.Module]:
    """The layer with normalisation and a ReLU."""
    return [layer, normalisation(width), nn.ReLU()]


def normalisation(width: int) -> nn.GroupNorm:
    """Normalisation over groups of channels."""
    groups = next(g for g in range(min(GROUPS, width), 0, -1) if width % g == 0)
    return nn.GroupNorm(groups, width)


class Fusion(nn.Module):
    """The purifier ``clip(x + G(x))``: the image plus its inverse perturbation.

    Args:
        generator: Maps images to inverse perturbations.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, x: Images) -> Images:
        x_hat: Images = (x + self.generator(x)).clamp(0, 1)
        return x_hat


class Translation(nn.Module):
    """The purifier ``clip(x + u)``: every image plus one universal perturbation.

    Args:
        u: The perturbation, of shape (1, c, h, w).
    """

    u: Float[Tensor, "1 c h w"]

    def __init__(self, u: Float[Tensor, "1 c h w"]) -> None:
        super().__init__()
        self.register_buffer("u", u)

    def forward(self, x: Images) -> Images:
        return (x + self.u).clamp(0, 1)


class UniversalGenerator(nn.Module):
    """A network that outputs one perturbation in [-1, 1], from a fixed latent.

    A linear layer and two deconvolutions with a tanh.

    Args:
        shape: Channels, height and width of an image.
        latent: Length of the latent, which is drawn at random and does not change.
        width: Channels before the last deconvolution; there are twice as many before the first.
    """

    z: Tensor

    def __init__(self, shape: Shape, latent: int, width: int) -> None:
        super().__init__()
        self.shape = shape
        channels, h, w = shape
        rows, columns = -(-h // 4), -(-w // 4)
        self.register_buffer("z", torch.randn(1, latent))
        self.body = nn.Sequential(
            nn.Linear(latent, 2 * width * rows * columns),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, rows, columns)),
            *normalised(nn.ConvTranspose2d(2 * width, width, 4, 2, 1), width),
            nn.ConvTranspose2d(width, channels, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self) -> Float[Tensor, "1 c h w"]:
        _, h, w = self.shape
        output: Tensor = self.body(self.z)
        return output[:, :, :h, :w]
