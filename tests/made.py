"""Writers of small files in real formats, for the tests of data sets."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx(array: NDArray[np.uint8]) -> bytes:
    """A gzipped IDX file."""
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.tobytes())


def idx_set(folder: Path) -> None:
    """The four files of MNIST: 40 training and 20 test images, with cycling labels."""
    folder.mkdir(parents=True)
    for prefix, n in (("train", 40), ("t10k", 20)):
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(noise(n, 28, 28, seed=n)))
        labels = (np.arange(n) % 10).astype(np.uint8)
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(labels))


def encoded(pixels: NDArray[np.uint8], form: str = "PNG", **options: object) -> bytes:
    """A PNG or JPEG file of (h, w) or (h, w, 3 or 4) pixels."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form, **options)
    return content.getvalue()


def packed(*images: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Concatenated files and their offsets."""
    return np.frombuffer(b"".join(images), np.uint8), np.cumsum([0, *map(len, images)])
