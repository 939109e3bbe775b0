"""NPZ: arrays of images and labels in one NumPy file.

The file holds ``x_train``, ``y_train``, ``x_test`` and ``y_test`` (or one of the two pairs); or
``x`` and ``y``, or ``images`` and ``labels``, as test images. An array ``names`` of strings may
name the classes.

Images are uint8, or floats in [0, 1] that are rounded to 8 bits, of shape (n, h, w), (n, h, w, c)
or (n, c, h, w) with 1 or 3 channels. Labels are integers of shape (n,) or (n, 1). Python objects
are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from spearshield.dataset import Dataset, Examples, check_levels, eight_bit
from spearshield.ranges import require
from spearshield.storage import archives
from spearshield.storage.archives import UnsuitableError, corrupt_as_value_error
from spearshield.storage.downloads import locate_path
from spearshield.storage.images import check_size, resized

PAIRS = (("x", "y"), ("images", "labels"))


@dataclass(frozen=True)
class Npz(Dataset):
    """Images and labels in the arrays of an npz file.

    Args:
        path: The file, relative to the working directory or to a data folder.
        classes: Number of classes. ``None``: the number of ``names`` in the file, or else the
            largest label plus one. Set it if no image has the last class.
        size: Height and width in pixels. Images are resized until they cover it, and cropped around
            the middle. ``None``: they keep their size.

    Raises:
        ValueError: ``classes``, ``size`` or ``validation`` is out of range.
    """

    path: str = ""
    classes: int | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "classes", at_least=1)
        check_size(self.size)

    @property
    def display_name(self) -> str:
        """The name of the file."""
        return Path(self.path).stem

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        path = locate_path(self.path, root)
        wanted = ["names", "y_train", "y_test", f"x_{split}", *PAIRS[0], *PAIRS[1]]
        arrays = archives.npz(path, wanted)
        with corrupt_as_value_error(path):
            x, y = _pair(arrays, split)
            pixels, labels = _pixels(arrays[x], x), _labels(arrays[y], y)
            if len(pixels) != len(labels):
                raise UnsuitableError(f"it holds {len(labels)} labels for {len(pixels)} images")
            names = self._names(
                arrays, {key: arrays[key] for key in ("y_train", "y_test", y) if key in arrays}
            )
            pixels = pixels if self.size is None else resized(pixels, self.size)
            return Examples.of(pixels, torch.from_numpy(labels), names)

    def _names(
        self, arrays: dict[str, NDArray[Any]], y: dict[str, NDArray[Any]]
    ) -> tuple[str, ...]:
        """The names of the classes, after a check that the labels of all splits fit them."""
        labels = {key: _labels(array, key) for key, array in y.items()}
        count = self.classes or max(1 + int(array.max()) for array in labels.values())
        names = tuple(map(str, arrays.get("names", np.arange(count))))
        if self.classes not in (None, len(names)):
            raise UnsuitableError(f"it has {len(names)} names, but classes is {self.classes}")
        for key, array in labels.items():
            low, high = int(array.min()), int(array.max())
            if low < 0 or high >= len(names):
                wanted = "0" if low < 0 else f"0 to {len(names) - 1} for {len(names)} classes"
                raise UnsuitableError(
                    f"{key} holds labels from {low} to {high}; they must be from {wanted}"
                )
        return names


def _pair(arrays: dict[str, NDArray[Any]], split: str) -> tuple[str, str]:
    """The names of the arrays of images and labels of a split."""
    pairs = [(f"x_{split}", f"y_{split}"), *(PAIRS if split == "test" else ())]
    for x, y in pairs:
        if x in arrays and y in arrays:
            return x, y
    wanted = " or ".join(f"{x} and {y}" for x, y in pairs)
    raise UnsuitableError(
        f"it has no {split} images with labels; it needs the arrays {wanted}, and has "
        f"{', '.join(arrays) or 'none of them'}"
    )


def _pixels(x: NDArray[Any], name: str) -> UInt8[Tensor, "n c h w"]:
    """8-bit pixels, shaped (n, c, h, w)."""
    if x.ndim == 3:
        x = x[:, None]
    first, last = (x.ndim == 4 and x.shape[axis] in (1, 3) for axis in (1, 3))
    if first == last or 0 in x.shape:
        raise UnsuitableError(
            f"{name} has shape {x.shape}; it must be (n, h, w), or (n, h, w, c) or (n, c, h, w) "
            "with 1 or 3 channels, and only one axis that can be the channels"
        )
    if last:
        x = x.transpose(0, 3, 1, 2)
    try:
        pixels = eight_bit(x).contiguous()
        check_levels(pixels)
    except ValueError as error:
        raise UnsuitableError(f"{name}: {error}") from error
    return pixels


def _labels(y: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Class ids of shape (n,)."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer) or len(y) == 0:
        raise UnsuitableError(
            f"{name} is {y.dtype} of shape {y.shape}; labels are integers, one per image"
        )
    return y.astype(np.int64)
