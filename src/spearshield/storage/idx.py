"""IDX: the file format of MNIST and of its replacements.

LeCun, Cortes, Burges, "The MNIST database of handwritten digits". http://yann.lecun.com/exdb/mnist
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from spearshield.dataset import Examples
from spearshield.pixels import named
from spearshield.storage.archives import corrupt_as_value_error, gunzip
from spearshield.storage.downloads import File
from spearshield.storage.reading import file_bytes

LARGEST = 64 << 20
"""Largest size of an unpacked file, in bytes; the largest file of MNIST has 47,040,016."""

Pair = tuple[File, File]


def published(
    address: str, *, train: tuple[str, str], test: tuple[str, str]
) -> dict[Literal["train", "test"], Pair]:
    """The files of images and labels of each split, given their SHA-256 digests."""

    def pair(prefix: str, sha256: tuple[str, str]) -> Pair:
        images, labels = f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"
        return (
            File(images, address + images, sha256[0]),
            File(labels, address + labels, sha256[1]),
        )

    return {"train": pair("train", train), "test": pair("t10k", test)}


def examples(images: Path, labels: Path, names: tuple[str, ...]) -> Examples:
    """The 28 x 28 images of one file with the labels of another.

    Args:
        images, labels: IDX files, with or without gzip compression.

    Raises:
        ValueError: A file is truncated, corrupt, or of another shape; names the file.
    """
    pixels, y = _read(images, 3), _read(labels, 1)
    if pixels.shape[1:] != (28, 28) or len(pixels) == 0:
        raise ValueError(f"{images}: it holds images of shape {pixels.shape}, not (n, 28, 28)")
    if len(y) != len(pixels):
        raise ValueError(f"{labels}: it holds {len(y)} labels for {len(pixels)} images")
    if y.max() >= len(names):
        raise ValueError(f"{labels}: its largest label is {y.max()}, of {len(names)} classes")
    with named(images):
        return Examples.of(
            torch.from_numpy(pixels[:, None].copy()), torch.from_numpy(y.astype(np.int64)), names
        )


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    content = gunzip(path, LARGEST) if path.suffix == ".gz" else file_bytes(path, LARGEST)
    with corrupt_as_value_error(path):
        magic, start = bytes((0, 0, 8, dimensions)), 4 + 4 * dimensions
        if content[:4] != magic:
            raise ValueError(f"it starts with {content[:4].hex()}, not {magic.hex()}")
        shape = struct.unpack(f">{dimensions}I", content[4:start])
        if len(content) - start != math.prod(shape):
            raise ValueError(f"its header says {shape}, but {len(content) - start} bytes follow")
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
