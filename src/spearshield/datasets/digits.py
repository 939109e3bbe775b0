"""Digits: 1,797 handwritten digits of 8 x 8 pixels in 10 classes, part of scikit-learn.

Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", 1998.
https://archive.ics.uci.edu/dataset/80

scikit-learn defines no split. Here the first 1,437 are the training images and the last 360 the
test images. They are ordered by writer, so most test writers are not in the training images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from sklearn.datasets import load_digits

from spearshield.dataset import Dataset, Examples

TRAIN = 1437


@dataclass(frozen=True)
class Digits(Dataset):
    """1,437 training and 360 test images, grey; the levels 0 to 16 are scaled to 0 to 255."""

    validation: int = field(default=200, kw_only=True)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:  # noqa: ARG002
        embedded = load_digits()
        part = slice(None, TRAIN) if split == "train" else slice(TRAIN, None)
        levels = np.rint(embedded.images[part] * (255 / 16)).astype(np.uint8)
        y = embedded.target[part].astype(np.int64)
        names = tuple(map(str, range(10)))
        return Examples.of(torch.from_numpy(levels[:, None]), torch.from_numpy(y), names)
