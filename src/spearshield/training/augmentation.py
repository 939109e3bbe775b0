"""Random changes of training images that do not change their class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
        n, channels, h, w = x.shape
        offsets = rng.fold(0).integers((2,), 2 * self.shift + 1)
        rows = offsets[:, 0, None] + torch.arange(h, device=x.device)
        columns = offsets[:, 1, None] + torch.arange(w, device=x.device)
        if self.flip:
            reflected = rng.fold(1).integers((1,), 2) == 1
            columns = torch.where(reflected, columns.flip(1), columns)
        image = torch.arange(n, device=x.device)[:, None, None, None]
        channel = torch.arange(channels, device=x.device)[:, None, None]
        padded = pad(x, (self.shift,) * 4)
        changed: Images = padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
        return changed
