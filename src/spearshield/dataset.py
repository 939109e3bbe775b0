"""The base class of data sets, and the examples that they load."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from spearshield.ranges import require
from spearshield.rng import permutation
from spearshield.types import Ids, Images, Labels, Shape

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Examples:
    """Images with labels, in memory as 8-bit pixels.

    Args:
        pixels: From 0 to 255.
        y: Class ids, from 0 to ``len(names) - 1``.
        ids: The position of each image in its official split. The randomness of an image depends on
            its id, not on its batch.
        names: The names of the classes, in the order of their ids.
        source: The name of the data set or file that the images come from.

    Raises:
        ValueError: The pixels are not uint8, the lengths differ, or a label is out of range.
    """

    pixels: UInt8[Tensor, "n c h w"]
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
            images: As for :func:`eight_bit`, of shape (n, c, h, w).

        Raises:
            ValueError: The images are not images, or fail :func:`check_levels`.
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
            training images are the ``train`` split.

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
            ValueError: A file is truncated, corrupt or unsuitable; names the file.
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
        train = self.read("train", root)
        if self.validation >= len(train):
            raise ValueError(
                f"validation must be between 0 and {len(train) - 1}, got {self.validation}"
            )
        order = permutation(len(train), seed, epoch=0)
        chosen = order[: self.validation] if split == "validation" else order[self.validation :]
        return train[chosen.sort().values]


def eight_bit(images: Tensor | NDArray[Any]) -> UInt8[Tensor, "..."]:
    """Images as 8-bit pixels of the same shape, on the same device.

    The type decides what the numbers mean: ``uint8`` runs from 0 to 255 and is kept; floats run
    from 0 to 1 and are rounded to 256 levels.

    Raises:
        ValueError: The images have another type, or floats are not finite or not in [0, 1].
    """
    x = _tensor(images)
    if x.is_floating_point():
        x = x.float() if x.itemsize < torch.float32.itemsize else x
        if not bool(((x >= 0) & (x <= 1)).all()):
            raise ValueError(
                f"images run from {float(x.min()):g} to {float(x.max()):g}; floats must be finite "
                "and in [0, 1]: divide by 255, and undo the normalisation "
                "(as_classifier(model, mean=..., std=...) puts it into the classifier)"
            )
        return (x * 255).round().to(torch.uint8)
    if x.dtype != torch.uint8:
        raise ValueError(_other_type(str(x.dtype).removeprefix("torch.")))
    return x


def check_levels(pixels: UInt8[Tensor, "..."]) -> None:
    """Raise if the brightest of all pixels is 1 of 255.

    Raises:
        ValueError: Explains what such numbers usually are.
    """
    if pixels.numel() and int(pixels.max()) == 1:
        raise ValueError(
            "the brightest pixel is 1 of 255, so all images are nearly black: give uint8 images "
            "from 0 to 255, or floats in [0, 1] that are divided by 255 once; multiply a mask of "
            "0 and 1 by 255"
        )


def _tensor(images: Tensor | NDArray[Any]) -> Tensor:
    """A tensor, or an array as a tensor with a copy of its numbers."""
    if isinstance(images, Tensor):
        return images
    native = np.array(images, dtype=images.dtype.newbyteorder("="))
    try:
        return torch.from_numpy(native)
    except TypeError as error:
        raise ValueError(_other_type(str(images.dtype))) from error


def _other_type(dtype: str) -> str:
    return (
        f"images are {dtype}; they must be uint8 from 0 to 255, or floats in [0, 1]: convert "
        "whole numbers from 0 to 255 to uint8, and divide others by their largest level"
    )
