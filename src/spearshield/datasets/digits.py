"""Digits: 1,797 handwritten digits of 8 x 8 pixels that ship with scikit-learn.

Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", 1998.
https://archive.ics.uci.edu/dataset/80

scikit-learn carries them without a split. Here the first 1,437 are the training images and the
last 360 the test images. The order is that of the writers, so most test writers are new.
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
    """Embedded, so nothing is looked for. The 17 levels, 0 to 16, are spread over 0 to 255."""

    validation: int = field(default=200, kw_only=True)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:  # noqa: ARG002
        embedded = load_digits()
        part = slice(None, TRAIN) if split == "train" else slice(TRAIN, None)
        levels = np.rint(embedded.images[part] * (255 / 16)).astype(np.uint8)
        y = embedded.target[part].astype(np.int64)
        names = tuple(map(str, range(10)))
        return Examples.of(torch.from_numpy(levels[:, None]), torch.from_numpy(y), names)
