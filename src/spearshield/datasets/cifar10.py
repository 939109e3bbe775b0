"""CIFAR-10: 60,000 colour photographs of 32 x 32 pixels in 10 classes.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
https://www.cs.toronto.edu/~kriz/cifar.html

The binary version is read. The Python version consists of pickles, which can run code.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from spearshield.dataset import Dataset, Examples
from spearshield.storage.archives import corrupt_as_value_error, gunzip
from spearshield.storage.downloads import File, locate

ARCHIVE = File(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)

MEMBERS = {
    "train": [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)],
    "test": ["cifar-10-batches-bin/test_batch.bin"],
}

NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_RECORD = 1 + 3 * 32 * 32
_LARGEST = 256 << 20


@dataclass(frozen=True)
class CIFAR10(Dataset):
    """50,000 training and 10,000 test images."""

    validation: int = field(default=5000, kw_only=True)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        (path,) = locate("cifar10", [ARCHIVE], root)
        content = gunzip(path, _LARGEST)
        with (
            corrupt_as_value_error(path),
            tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive,
        ):
            records = np.concatenate([_records(archive, name) for name in MEMBERS[split]])
            pixels = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
            return Examples.of(pixels, torch.from_numpy(records[:, 0].astype(np.int64)), NAMES)


def _records(
    archive: tarfile.TarFile, name: str
) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Rows of a label and 3 x 32 x 32 pixels."""
    member = archive.extractfile(name)
    content = member.read() if member else b""
    if not content or len(content) % _RECORD:
        raise ValueError(f"{name} has {len(content)} bytes, not a multiple of {_RECORD}")
    return np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
