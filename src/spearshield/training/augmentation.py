"""Random changes of training images that do not change their class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import pad

from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.warp import Warp
from spearshield.types import Images


@dataclass(frozen=True)
class Augmentation:
    """A random shift, a random reflection, and a random warp.

    Args:
        shift: Largest shift, in pixels, in each direction. What leaves the image is lost, and black
            pixels take its place.
        flip: If true, half of the images are reflected, left to right.
        warp: Rotation, zoom and elastic distortion; ``None``: none.

    Raises:
        ValueError: ``shift`` is negative.
    """

    shift: int = 0
    flip: bool = False
    warp: Warp | None = None

    def __post_init__(self) -> None:
        require(self, "shift", at_least=0)

    def __call__(self, x: Images, rng: Rng) -> Images:
        """The changed images, of the shape of ``x``.

        Args:
            rng: Randomness of the images.
        """
        x = self._shifted(x, rng)
        return self.warp(x, rng.fold(2)) if self.warp else x

    def move(self, values: Tensor, rng: Rng) -> Tensor:
        """Values of pixels, such as perturbations, where the change moves them.

        Args:
            rng: Randomness of the change.
        """
        values = self._shifted(values, rng)
        return self.warp.move(values, rng.fold(2)) if self.warp else values

    def undo(self, values: Tensor, rng: Rng) -> Tensor:
        """The values before the change; zero where they had left the image. Nearly, with a warp.

        Args:
            rng: Randomness of the change.
        """
        x = self.warp.undo(values, rng.fold(2)) if self.warp else values
        rows, columns, reflected = self._drawn(x, rng)
        back = 2 * self.shift + torch.arange(x.shape[3], device=x.device).mul(2) - columns
        columns = torch.where(reflected, columns.flip(1), back)
        back = 2 * self.shift + torch.arange(x.shape[2], device=x.device).mul(2) - rows
        return self._picked(x, back, columns)

    def _shifted(self, x: Tensor, rng: Rng) -> Tensor:
        """The shifted and reflected values."""
        rows, columns, reflected = self._drawn(x, rng)
        columns = torch.where(reflected, columns.flip(1), columns)
        return self._picked(x, rows, columns)

    def _drawn(
        self, x: Tensor, rng: Rng
    ) -> tuple[Int[Tensor, "n h"], Int[Tensor, "n w"], Bool[Tensor, "n 1"]]:
        """Rows and columns of the padded images, and whether the columns are reflected."""
        offsets = rng.fold(0).integers((2,), 2 * self.shift + 1)
        rows = offsets[:, 0, None] + torch.arange(x.shape[2], device=x.device)
        columns = offsets[:, 1, None] + torch.arange(x.shape[3], device=x.device)
        return rows, columns, rng.fold(1).integers((1,), 2) < int(self.flip)

    def _picked(self, x: Tensor, rows: Int[Tensor, "n h"], columns: Int[Tensor, "n w"]) -> Tensor:
        """These rows and columns of the images, which black pixels surround."""
        image = torch.arange(len(x), device=x.device)[:, None, None, None]
        channel = torch.arange(x.shape[1], device=x.device)[:, None, None]
        padded = pad(x, (self.shift,) * 4)
        picked: Tensor = padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
        return picked
