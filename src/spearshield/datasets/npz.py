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

from numpy.typing import NDArray

from spearshield.dataset import Dataset, Examples, MissingSplitError
from spearshield.pixels import (
    MOST_CLASSES,
    as_labels,
    as_pixels,
    check_lengths,
    check_levels,
    named,
)
from spearshield.ranges import require
from spearshield.storage import archives
from spearshield.storage.downloads import locate_path
from spearshield.storage.images import check_size, resized
from spearshield.types import Labels

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
        require(self, "classes", at_least=1, at_most=MOST_CLASSES)
        check_size(self.size)

    @property
    def display_name(self) -> str:
        """The name of the file."""
        return Path(self.path).stem

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        path = locate_path(self.path, root)
        x, y = _pair(path, split)
        arrays = archives.npz(path, ["names", "y_train", "y_test", x, y])
        with named(f"{path}: {x}"):
            pixels = as_pixels(arrays[x])
            check_levels(pixels)
        with named(path):
            labels = {key: _labels(arrays[key], key) for key in arrays if key not in ("names", x)}
            check_lengths(len(pixels), len(labels[y]))
            names = self._names(arrays.get("names"), labels)
        pixels = pixels if self.size is None else resized(pixels, self.size)
        return Examples.of(pixels, labels[y], names)

    def _names(self, given: NDArray[Any] | None, labels: dict[str, Labels]) -> tuple[str, ...]:
        """The names of the classes, after a check that the labels of all splits fit them."""
        count = self.classes or max(1 + int(y.max()) for y in labels.values())
        names = tuple(map(str, range(count))) if given is None else _strings(given)
        if self.classes not in (None, len(names)):
            raise ValueError(f"it has {len(names)} names, but classes is {self.classes}")
        for key, y in labels.items():
            low, high = int(y.min()), int(y.max())
            if high >= len(names):
                shift = "; if classes are numbered from 1, subtract 1" if low == 1 else ""
                raise ValueError(
                    f"{key} holds labels from {low} to {high}; they must be from 0 to "
                    f"{len(names) - 1} for {len(names)} classes{shift}"
                )
        return names


def _pair(path: Path, split: str) -> tuple[str, str]:
    """The names of the arrays of images and labels of a split in a file."""
    held = archives.npz_names(path)
    pairs = [(f"x_{split}", f"y_{split}"), *(PAIRS if split == "test" else ())]
    for x, y in pairs:
        if x in held and y in held:
            return x, y
    divided = any(f"x_{part}" in held and f"y_{part}" in held for part in ("train", "test"))
    wanted = " or ".join(f"{x} and {y}" for x, y in pairs)
    raise MissingSplitError(
        f"{path} has no {split} images with labels; it needs the arrays {wanted}, and has "
        f"{', '.join(held) or 'none'} (np.savez(path, {pairs[-1][0]}=images, "
        f"{pairs[-1][1]}=labels) writes them)",
        divided,
    )


def _labels(y: NDArray[Any], name: str) -> Labels:
    """The class ids in an array, of which there is at least one."""
    with named(name):
        labels = as_labels(y)
        if len(labels) == 0:
            raise ValueError("there are no labels")
        return labels


def _strings(names: NDArray[Any]) -> tuple[str, ...]:
    """The names of classes in an array of strings or numbers."""
    if names.ndim != 1 or names.dtype.kind not in "USiu" or len(names) == 0:
        raise ValueError(
            f"names is {names.dtype} of shape {names.shape}; it must hold one string for each class"
        )
    return tuple(names.astype(str).tolist())
