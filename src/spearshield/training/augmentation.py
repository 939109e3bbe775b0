"""Random changes of training images that do not change their class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import pad

from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Images


@dataclass(frozen=True)
class Augmentation:
    """A random shift, and a random reflection.

    Args:
        shift: Largest shift, in pixels, in each direction. What leaves the image is lost, and black
            pixels take its place.
        flip: If true, half of the images are reflected, left to right.

    Raises:
        ValueError: ``shift`` is negative.
    """

    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        require(self, "shift", at_least=0)

    def __call__(self, x: Images, rng: Rng) -> Images:
        """The changed images, of the shape of ``x``.

        Args:
            rng: Randomness of the images.
        """
        rows, columns, reflected = self._drawn(x, rng)
        columns = torch.where(reflected, columns.flip(1), columns)
        return self._picked(x, rows, columns)

    def undo(self, x: Images, rng: Rng) -> Images:
        """The images before the change; black where they had left the image.

        Args:
            rng: Randomness of the change.
        """
        rows, columns, reflected = self._drawn(x, rng)
        back = 2 * self.shift + torch.arange(x.shape[3], device=x.device).mul(2) - columns
        columns = torch.where(reflected, columns.flip(1), back)
        back = 2 * self.shift + torch.arange(x.shape[2], device=x.device).mul(2) - rows
        return self._picked(x, back, columns)

    def _drawn(
        self, x: Images, rng: Rng
    ) -> tuple[Int[Tensor, "n h"], Int[Tensor, "n w"], Bool[Tensor, "n 1"]]:
        """Rows and columns of the padded images, and whether the columns are reflected."""
        offsets = rng.fold(0).integers((2,), 2 * self.shift + 1)
        rows = offsets[:, 0, None] + torch.arange(x.shape[2], device=x.device)
        columns = offsets[:, 1, None] + torch.arange(x.shape[3], device=x.device)
        return rows, columns, rng.fold(1).integers((1,), 2) < int(self.flip)

    def _picked(self, x: Images, rows: Int[Tensor, "n h"], columns: Int[Tensor, "n w"]) -> Images:
        """These rows and columns of the images, which black pixels surround."""
        image = torch.arange(len(x), device=x.device)[:, None, None, None]
        channel = torch.arange(x.shape[1], device=x.device)[:, None, None]
        padded = pad(x, (self.shift,) * 4)
        picked: Images = padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
        return picked
