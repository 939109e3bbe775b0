"""The base class of data sets, and the examples that they load."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from spearshield.pixels import check_levels, eight_bit
from spearshield.ranges import require
from spearshield.rng import permutation
from spearshield.stored_pixels import StoredPixels
from spearshield.types import Ids, Images, Labels, Shape

Split = Literal["train", "validation", "test"]


class MissingSplitError(ValueError):
    """A file or folder has no images of a split.

    Args:
        message: Names the file or folder, the split and the remedy.
        divided: True if it names its splits, so that its other images are of another split.
    """

    def __init__(self, message: str, divided: bool = True) -> None:
        super().__init__(message)
        self.divided = divided


@dataclass(frozen=True, eq=False)
class Examples:
    """Images with labels, as 8-bit pixels in memory or on disk.

    Args:
        pixels: From 0 to 255, of shape (n, c, h, w).
        y: Class ids, from 0 to ``len(names) - 1``.
        ids: The position of each image in its official split. The randomness of an image depends on
            its id, not on its batch.
        names: The names of the classes, in the order of their ids.
        source: The name of the data set or file that the images come from.

    Raises:
        ValueError: The pixels are not uint8, the lengths differ, or a label is out of range.
    """

    pixels: UInt8[Tensor, "n c h w"] | StoredPixels
    y: Labels
    ids: Ids
    names: tuple[str, ...]
    source: str = "images"

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8:
            raise ValueError(f"pixels must be uint8, from 0 to 255, got {self.pixels.dtype}")
        if not len(self.pixels) == len(self.y) == len(self.ids):
            raise ValueError(
                f"{len(self.pixels)} images, {len(self.y)} labels and {len(self.ids)} ids"
            )
        if len(self) and not (int(self.y.min()) >= 0 and int(self.y.max()) < len(self.names)):
            raise ValueError(
                f"labels run from {int(self.y.min())} to {int(self.y.max())}; they must be "
                f"0 to {len(self.names) - 1} for {len(self.names)} classes"
            )

    @staticmethod
    def of(images: Tensor, y: Labels, names: tuple[str, ...]) -> Examples:
        """Examples with their positions as ids.

        Args:
            images: As for :func:`~spearshield.pixels.eight_bit`, of shape (n, c, h, w).

        Raises:
            ValueError: The images are not images, or fail
                :func:`~spearshield.pixels.check_levels`.
        """
        pixels = eight_bit(images)
        check_levels(pixels)
        return Examples(pixels, y, torch.arange(len(y)), names)

    @property
    def shape(self) -> Shape:
        """Channels, height, width."""
        _, c, h, w = self.pixels.shape
        return c, h, w

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def content(self) -> Tensor | str:
        """What a digest of the images covers: the pixels, or what is known of them on disk."""
        return self.pixels.fingerprint if isinstance(self.pixels, StoredPixels) else self.pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Tensor | slice) -> Examples:
        parts = self.pixels[index], self.y[index], self.ids[index]
        return Examples(*parts, self.names, self.source)

    def images(self, device: torch.device | str = "cpu") -> Images:
        """The images as floats in [0, 1]."""
        return self.pixels.to(device).float() / 255


@dataclass(frozen=True)
class Dataset(abc.ABC):
    """A data set: the location and the format of its files.

    Args:
        validation: Number of training images in the ``validation`` split, drawn by seed. The other
            training images are the ``train`` split; with another seed it has most of these images.

    Raises:
        ValueError: ``validation`` is negative.
    """

    validation: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        require(self, "validation", at_least=0)

    @abc.abstractmethod
    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        """One official split.

        Args:
            root: A folder that is searched first (``--data-dir``); see :mod:`spearshield.datasets`.

        Raises:
            FileNotFoundError: A file is missing; names the searched folders and the source of the
                file.
            ValueError: A file is truncated, corrupt or unsuitable; names the file. A
                :class:`MissingSplitError`: a user's data have no such split.
        """

    def load(self, split: Split, *, root: Path | None = None, seed: int = 0) -> Examples:
        """One split. The official training split is divided into ``train`` and ``validation``.

        Args:
            root: See :meth:`read`.
            seed: Seed of the draw of validation images.

        Raises:
            ValueError: ``validation`` is not below the number of training images; or see
                :meth:`read`.
        """
        if split == "test":
            return self.read("test", root)
        if split == "validation" and self.validation == 0:
            raise MissingSplitError(
                f"{type(self).__name__} sets no images aside for validation; choose train or test"
            )
        train = self.read("train", root)
        if self.validation >= len(train):
            raise ValueError(
                f"validation must be between 0 and {len(train) - 1}, got {self.validation}"
            )
        order = permutation(len(train), seed, epoch=0)
        chosen = order[: self.validation] if split == "validation" else order[self.validation :]
        return train[chosen.sort().values]
