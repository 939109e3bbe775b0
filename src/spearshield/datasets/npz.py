"""NPZ: images of your own in one NumPy file.

It holds ``x_train``, ``y_train``, ``x_test`` and ``y_test`` (or one of the two pairs), or else
``x`` and ``y``, or ``images`` and ``labels``, which are all test images. An array ``names`` of
strings may name the classes.

Images are uint8, or floats in [0, 1], which are rounded to 8 bits; of shape (n, h, w), (n, h, w, c)
or (n, c, h, w) with 1 or 3 channels. Labels are integers of shape (n,) or (n, 1). Python objects
are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from spearshield.dataset import Dataset, Examples
from spearshield.storage import archives
from spearshield.storage.archives import corrupt_as_value_error
from spearshield.storage.downloads import locate_path

PAIRS = (("x", "y"), ("images", "labels"))


@dataclass(frozen=True)
class Npz(Dataset):
    """Arrays in a file.

    Args:
        path: The file; relative to the working directory or to a folder with data.
        classes: How many there are, where the file has no ``names``. ``None``: one more than the
            largest label.

    Raises:
        ValueError: ``classes`` is not positive.
    """

    path: str = ""
    classes: int | None = None

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes < 1:
            raise ValueError(f"classes must be at least 1, got {self.classes}")

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        path = locate_path(self.path, root)
        known = ["names", "y_train", "y_test", f"x_{split}", *PAIRS[0], *PAIRS[1]]
        arrays = archives.npz(path, known)
        with corrupt_as_value_error(path):
            x, y = _pair(arrays, split)
            pixels, labels = _pixels(arrays[x], x), _labels(arrays[y], y)
            if len(pixels) != len(labels):
                raise ValueError(f"it holds {len(labels)} labels for {len(pixels)} images")
            every = [_labels(arrays[k], k) for k in ("y_train", "y_test") if k in arrays] + [labels]
            count = self.classes or 1 + max(int(part.max()) for part in every)
            names = arrays.get("names", np.arange(count))
            return Examples.of(
                torch.from_numpy(pixels), torch.from_numpy(labels), tuple(map(str, names))
            )


def _pair(arrays: dict[str, NDArray[Any]], split: str) -> tuple[str, str]:
    """The names under which the images and labels of a split are stored."""
    pairs = [(f"x_{split}", f"y_{split}"), *(PAIRS if split == "test" else ())]
    for x, y in pairs:
        if x in arrays and y in arrays:
            return x, y
    wanted = " or ".join(f"{x} and {y}" for x, y in pairs)
    raise ValueError(f"it has no {split} images with labels, which are called {wanted}")


def _pixels(x: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """8-bit pixels, shaped (n, c, h, w)."""
    if x.ndim == 3:
        x = x[:, None]
    first, last = (x.ndim == 4 and x.shape[axis] in (1, 3) for axis in (1, 3))
    if first == last or 0 in x.shape:
        raise ValueError(
            f"{name} has shape {x.shape}; it must be (n, h, w), or (n, h, w, c) or (n, c, h, w) "
            "with 1 or 3 channels, and only one axis that can be the channels"
        )
    if last:
        x = x.transpose(0, 3, 1, 2)
    if np.issubdtype(x.dtype, np.floating):
        if not ((x >= 0) & (x <= 1)).all():
            raise ValueError(f"{name} runs from {x.min()} to {x.max()}; floats must be in [0, 1]")
        x = np.rint(x * 255).astype(np.uint8)
    if x.dtype != np.uint8:
        raise ValueError(f"{name} is {x.dtype}; images are uint8, or floats in [0, 1]")
    return np.ascontiguousarray(x)


def _labels(y: NDArray[Any], name: str) -> NDArray[np.int64]:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer) or len(y) == 0:
        raise ValueError(
            f"{name} is {y.dtype} of shape {y.shape}; labels are integers, one an image"
        )
    return y.astype(np.int64)
