"""Pictures in files, decoded by worker processes when their pixels are needed."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from spearshield.storage.digest import digest
from spearshield.storage.images import fit, read
from spearshield.stored_pixels import StoredPixels
from spearshield.types import Ids, Shape

FEW = 32
"""So many pictures are decoded without worker processes."""
MOST_WORKERS = 8


@dataclass(frozen=True, eq=False)
class PicturePixels(StoredPixels):
    """PNG and JPEG files with pixels of one shape.

    Args:
        files: The files of the whole folder; ``rows`` selects a part of them.
        channels: 1 or 3.
        size: Height and width of the pixels.
        resize: If true, pictures are resized and cropped to ``size``; else each must have it.
        rows: Positions in ``files``, of shape (n,).
    """

    files: tuple[Path, ...]
    channels: int
    size: tuple[int, int]
    resize: bool
    rows: Ids

    @property
    def image_shape(self) -> Shape:
        return self.channels, *self.size

    @property
    def fingerprint(self) -> str:
        """Digest of the names, sizes and times of change of the files."""
        told = []
        for row in self.rows.tolist():
            about = self.files[row].stat()
            told.append(f"{self.files[row].name} {about.st_size} {about.st_mtime_ns}")
        return digest("\n".join(told), f"{self.image_shape} {self.resize}")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> PicturePixels:
        return replace(self, rows=self.rows[index])

    def to(self, device: torch.device | str) -> UInt8[Tensor, "n c h w"]:
        rows = self.rows.tolist()
        workers = min(MOST_WORKERS, os.cpu_count() or 1) if len(rows) > FEW else 0
        loader: Any = DataLoader(
            _Decoded(self, rows),  # type: ignore[arg-type]
            batch_size=max(1, math.ceil(len(rows) / max(1, workers))),
            num_workers=workers,
            collate_fn=_stacked,
        )
        parts = []
        for part in loader:
            if isinstance(part, ValueError):
                raise part
            parts.append(part)
        empty = torch.empty(0, *self.image_shape, dtype=torch.uint8)
        return torch.cat(parts or [empty]).to(device)

    def decoded(self, row: int) -> UInt8[Tensor, "c h w"]:
        """The pixels of one picture.

        Raises:
            ValueError: The file cannot be read, or has another size; names it.
        """
        image = read(self.files[row], self.channels)
        if self.resize:
            image = fit(image, self.size)
        if (image.height, image.width) != self.size:
            height, width = self.size
            raise ValueError(
                f"{self.files[row]} has {image.width} x {image.height} pixels but others have "
                f"{width} x {height}; set the size to a height and a width, to which all are "
                f"resized: --size {height}x{width}, or datasets.ImageFolder(path, "
                f"size=({height}, {width}))"
            )
        return _as_tensor(image)


def _as_tensor(image: Image.Image) -> UInt8[Tensor, "c h w"]:
    pixels = np.array(image).reshape(image.height, image.width, -1)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class _Decoded:
    """The pictures of some rows, as a data set of PyTorch. An error is returned, not raised."""

    def __init__(self, pixels: PicturePixels, rows: list[int]) -> None:
        self.pixels, self.rows = pixels, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Tensor | ValueError:
        try:
            return self.pixels.decoded(self.rows[i])
        except OSError as error:
            return ValueError(f"{self.pixels.files[self.rows[i]]}: {error.strerror or error}")
        except ValueError as error:
            return error


def _stacked(images: list[Tensor | ValueError]) -> Tensor | ValueError:
    """The images as one tensor, or the first error."""
    errors = [image for image in images if isinstance(image, ValueError)]
    return errors[0] if errors else torch.stack(images)  # type: ignore[arg-type]
