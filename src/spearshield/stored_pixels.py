"""The interface of images that stay on disk until their pixels are needed."""

from __future__ import annotations

import abc
from typing import ClassVar

import torch
from jaxtyping import UInt8
from torch import Tensor

from spearshield.types import Shape


class StoredPixels(abc.ABC):
    """8-bit pixels of any number of images, of which a part is read at a time.

    It takes the place of a tensor of shape (n, c, h, w) in
    :class:`~spearshield.dataset.Examples`. Taking a part reads nothing.
    """

    dtype: ClassVar[torch.dtype] = torch.uint8
    device: ClassVar[torch.device] = torch.device("cpu")

    @property
    @abc.abstractmethod
    def image_shape(self) -> Shape:
        """Channels, height and width of an image."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Text that changes if an image changes, without reading the pixels."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def __getitem__(self, index: Tensor | slice) -> StoredPixels: ...

    @abc.abstractmethod
    def to(self, device: torch.device | str) -> UInt8[Tensor, "n c h w"]:
        """The pixels, read now.

        Raises:
            ValueError: A file cannot be read; names the file.
        """

    @property
    def shape(self) -> torch.Size:
        """Number of images, channels, height and width."""
        return torch.Size((len(self), *self.image_shape))

    def numel(self) -> int:
        """Number of pixels, all channels counted."""
        return self.shape.numel()
