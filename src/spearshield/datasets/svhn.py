"""SVHN: 99,289 house-number digits of 32 x 32 pixels in 10 classes, cropped from street views.

Netzer, Wang, Coates, Bissacco, Wu, Ng, "Reading Digits in Natural Images with Unsupervised
Feature Learning", 2011. http://ufldl.stanford.edu/housenumbers
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.io import loadmat, whosmat  # type: ignore[import-untyped]
from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]

from spearshield.dataset import Dataset, Examples
from spearshield.storage.archives import UnsuitableError, corrupt_as_value_error
from spearshield.storage.downloads import File, locate

_ADDRESS = "http://ufldl.stanford.edu/housenumbers/"

FILES = {
    "train": File(
        "train_32x32.mat",
        _ADDRESS + "train_32x32.mat",
        "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    ),
    "test": File(
        "test_32x32.mat",
        _ADDRESS + "test_32x32.mat",
        "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    ),
}

_LARGEST = 100_000


@dataclass(frozen=True)
class SVHN(Dataset):
    """73,257 training and 26,032 test images; class 10 of the files is the digit 0."""

    validation: int = field(default=5000, kw_only=True)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        (path,) = locate("svhn", [FILES[split]], root)
        with path.open("rb") as file, corrupt_as_value_error(path, MatReadError):
            shapes = {name: shape for name, shape, _ in whosmat(file)}
            *size, n = shapes["X"]
            if size != [32, 32, 3] or shapes["y"] != (n, 1) or not 0 < n <= _LARGEST:
                raise UnsuitableError(f"its arrays have shapes {shapes}")
            file.seek(0)
            arrays = loadmat(file, variable_names=["X", "y"])
            digits = arrays["y"][:, 0].astype(np.int64)
            if arrays["X"].dtype != np.uint8 or digits.min() < 1:
                raise UnsuitableError(
                    f"X is {arrays['X'].dtype}, the smallest label {digits.min()}"
                )
            pixels = np.ascontiguousarray(arrays["X"].transpose(3, 2, 0, 1))
            y = np.where(digits == 10, 0, digits)
            names = tuple(map(str, range(10)))
            return Examples.of(torch.from_numpy(pixels), torch.from_numpy(y), names)
