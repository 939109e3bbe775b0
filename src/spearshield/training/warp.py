"""Random warps of images: rotation, zoom, and elastic distortion.

Simard, Steinkraus, Platt, "Best Practices for Convolutional Neural Networks Applied to Visual
Document Analysis", 2003. https://doi.org/10.1109/ICDAR.2003.1227801
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Images

NODE = 5
"""Pixels between the nodes of the elastic distortion."""


@dataclass(frozen=True)
class Warp:
    """A random rotation and zoom about the centre, and random shifts of a grid of nodes.

    The shifts between the nodes are interpolated. Pixels from outside the image are black.

    Args:
        rotation: Largest angle, in degrees, in each direction.
        zoom: Largest change of the size, as a share of it, in [0, 1).
        elastic: Standard deviation of the shift of a node, in pixels.
        contrast: Factor of the differences from mid-grey; above 1 it makes up for the blur of the
            interpolation.
        share: Share of the images that are warped, in [0, 1].

    Raises:
        ValueError: A number is out of range.
    """

    rotation: float = 10.0
    zoom: float = 0.1
    elastic: float = 0.6
    contrast: float = 1.25
    share: float = 0.8

    def __post_init__(self) -> None:
        require(self, "rotation", "zoom", "elastic", "contrast", at_least=0)
        require(self, "zoom", below=1)
        require(self, "share", at_most=1, at_least=0)

    def __call__(self, x: Images, rng: Rng) -> Images:
        """The warped images, in [0, 1], of the shape of ``x``.

        Args:
            rng: Randomness of the images.
        """
        sharpened = 0.5 + self.contrast * (self.move(x, rng) - 0.5)
        return torch.where(self._chosen(rng), sharpened.clamp(0, 1), x)

    def move(self, values: Tensor, rng: Rng) -> Tensor:
        """Values of pixels, such as perturbations, where the warp moves them; not clipped."""
        moved = grid_sample(values, self._sources(values, rng), "bicubic", align_corners=False)
        return torch.where(self._chosen(rng), moved, values)

    def undo(self, values: Tensor, rng: Rng) -> Tensor:
        """The values before the warp, nearly; zero where they had left the image.

        A place goes back by the shift of the pixel there, which is found by fixed-point iteration.
        """
        own = _own_places(values)
        shifts = (self._sources(values, rng) - own).permute(0, 3, 1, 2)
        back = own - shifts.permute(0, 2, 3, 1)
        for _ in range(2):
            there = grid_sample(shifts, back, padding_mode="border", align_corners=False)
            back = own - there.permute(0, 2, 3, 1)
        moved = grid_sample(values, back, "bicubic", align_corners=False)
        return torch.where(self._chosen(rng), moved, values)

    def _sources(self, x: Tensor, rng: Rng) -> Float[Tensor, "n h w 2"]:
        """The place, in [-1, 1], that each pixel of the result is taken from."""
        h, w = x.shape[2:]
        angle = math.radians(self.rotation) * rng.fold(0).uniform((), -1.0, 1.0)
        size = 1 + self.zoom * rng.fold(1).uniform((), -1.0, 1.0)
        cos, sin, zero = angle.cos() / size, angle.sin() / size, torch.zeros_like(angle)
        rows = (
            torch.stack([cos, -sin * h / w, zero], 1),
            torch.stack([sin * w / h, cos, zero], 1),
        )
        places = affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
        nodes = self.elastic * rng.fold(2).normal((2, h // NODE + 1, w // NODE + 1))
        nodes = torch.cat([nodes[:, :1] * (2 / w), nodes[:, 1:] * (2 / h)], 1)
        shifts = interpolate(nodes, (h, w), mode="bicubic", align_corners=True)
        moved: Tensor = places + shifts.permute(0, 2, 3, 1)
        return moved.to(x.dtype)

    def _chosen(self, rng: Rng) -> Tensor:
        """True for the images that are warped, of shape (n, 1, 1, 1)."""
        return rng.fold(3).uniform((1, 1, 1)) < self.share


def _own_places(x: Tensor) -> Float[Tensor, "1 h w 2"]:
    """The place, in [-1, 1], of each pixel."""
    identity = torch.eye(2, 3, dtype=x.dtype, device=x.device)[None]
    return affine_grid(identity, [1, *x.shape[1:]], align_corners=False)
