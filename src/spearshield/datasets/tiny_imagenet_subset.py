"""Part of Tiny ImageNet: 14,000 photographs of 64 x 64 pixels in 200 classes of ImageNet.

Le, Yang, "Tiny ImageNet Visual Recognition Challenge", 2015.
http://cs231n.stanford.edu/reports/2015/pdfs/yle_project.pdf

The training images are the first 50 training images of each class, a tenth of all; the test images
are the first 20 validation images of each class. Do not compare results with published Tiny
ImageNet results.

``tiny_imagenet_14k.npz`` holds, for ``train`` and ``val``: ``*_bytes``, the concatenated original
JPEG files (uint8); ``*_offsets``, the start of each file and the end of the last one; ``*_labels``;
and ``names``, the names of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spearshield.dataset import Dataset, Examples
from spearshield.storage.downloads import File, locate
from spearshield.storage.images import packed

FILE = File(
    "tiny_imagenet_14k.npz",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip, its part packed into one npz",
)


@dataclass(frozen=True)
class TinyImageNetSubset(Dataset):
    """10,000 training and 4,000 test images."""

    validation: int = field(default=1000, kw_only=True)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        (path,) = locate("tiny_imagenet_subset", [FILE], root)
        return packed(path, "train" if split == "train" else "val")
