"""Images and labels collected from batches: loaders, data sets of PyTorch, generators and lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spearshield.arrays import as_tensor
from spearshield.pixels import as_labels, as_pixels, check_lengths, named
from spearshield.spelling import got
from spearshield.storage.images import GREY, flattened, stack

ENDLESS = 70_000
LARGEST = 4 << 30
"""Number of images, and of bytes, after which batches without a length count as endless."""

IMAGES = ("pixel_values", "images", "image", "img", "x", "inputs", "input", "data")
LABELS = ("labels", "label", "y", "targets", "target")
"""Keys of images and labels in a batch that is a dictionary."""


def is_array(images: object) -> bool:
    """True for a tensor, an array, or another object that converts itself to an array."""
    pairs = isinstance(images, (Mapping, Image.Image))
    return isinstance(images, (Tensor, np.ndarray)) or (hasattr(images, "__array__") and not pairs)


def collected(source: Any, labels: Any, limit: int) -> tuple[Tensor, Tensor]:
    """The images of all batches as 8-bit pixels of shape (n, c, h, w), and their labels.

    Args:
        source: An iterable or a map-style data set. Its items are batches or single images with
            labels: tuples, lists or dictionaries; or images alone, with ``labels``.
        labels: The labels of all images, if the items have none.
        limit: Stop when this number of images is reached; 0: read all.

    Raises:
        ValueError: An item is neither; the batches differ in shape, hold no image, or do not end.
    """
    found = _Found()
    for i, item in enumerate(_items(source)):
        with named(f"batch {i}"):
            found.add(*(_pair(item) if labels is None else (_alone(item), None)))
        if limit and found.count >= limit:
            break
        if not limit and i >= _length(source) and (found.count > ENDLESS or found.bytes > LARGEST):
            raise ValueError(
                f"the batches did not end after {found.count:,} images; set limit, or give a part "
                "of them, as itertools.islice(batches, 100)"
            )
    pixels = found.pixels()
    y = torch.cat(found.labels) if labels is None else as_labels(labels).cpu()
    return pixels[: limit or None], y[: limit or None]


@dataclass
class _Found:
    """The images found so far: arrays as pixels, or pictures of Pillow."""

    arrays: list[Tensor] = field(default_factory=list)
    pictures: list[Image.Image] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    count: int = 0
    bytes: int = 0

    def add(self, x: Any, y: Any) -> None:
        """Add a batch of images, or one image, with their labels where the batch has them."""
        labels = None if y is None else as_tensor(y, "labels")
        if pictures := _pictures(x):
            self.pictures += pictures
            added = len(pictures)
        else:
            single = np.ndim(x) < 4 if labels is None else labels.ndim == 0 and np.ndim(x) < 4
            added = self._add_array(_with_batch_axis(x) if single else x)
        if labels is not None:
            self.labels.append(as_labels(labels[None] if labels.ndim == 0 else labels).cpu())
            check_lengths(added, len(self.labels[-1]))
        self.count += added

    def _add_array(self, x: Any) -> int:
        """Add a batch of images in an array; returns how many."""
        part = as_pixels(x)
        if self.arrays and part.shape[1:] != self.arrays[0].shape[1:]:
            raise ValueError(
                f"its images have shape {tuple(part.shape[1:])}, those of batch 0 "
                f"{tuple(self.arrays[0].shape[1:])}; resize them to one size"
            )
        self.arrays.append(part)
        self.bytes += part.numel()
        return len(part)

    def pixels(self) -> Tensor:
        """The pixels of all images.

        Raises:
            ValueError: There are none, or they are of two kinds.
        """
        if self.arrays and self.pictures:
            raise ValueError("some batches hold tensors or arrays, others pictures of Pillow")
        if not (self.arrays or self.pictures):
            raise ValueError(
                "there are no batches, so there are no images; an iterator can be read only once"
            )
        if self.arrays:
            return torch.cat(self.arrays)
        channels = 1 if all(picture.mode in GREY for picture in self.pictures) else 3
        return stack(self._flat(channels), len(self.pictures))

    def _flat(self, channels: int) -> Iterator[Image.Image]:
        for i, picture in enumerate(self.pictures):
            with named(f"picture {i}"):
                flat = flattened(picture, channels)
            yield flat


def _items(source: Any) -> Iterator[Any]:
    """The batches or images of a source.

    Raises:
        ValueError: It is not a source of batches.
    """
    if isinstance(source, Image.Image):
        return iter([source])
    if isinstance(source, Mapping) or _is_pair_of_arrays(source):
        return iter([source])
    indexed = hasattr(source, "__getitem__")
    if isinstance(source, Iterable) or (indexed and not isinstance(source, Sized)):
        return iter(source)
    if indexed:
        return (source[i] for i in range(len(source)))
    raise ValueError(
        f"images are {got(source)}; give a tensor, an array, a data set, a path, or "
        "batches of (images, labels)"
    )


def _is_pair_of_arrays(source: Any) -> bool:
    """True for (images, labels) as arrays."""
    if not (isinstance(source, (tuple, list)) and len(source) == 2):
        return False
    x, y = source
    return is_array(x) and np.ndim(x) >= 3 and np.ndim(y) in (1, 2) and not _pictures(y)


def _length(source: Any) -> int:
    """The number of batches, as far as it is known; else 0."""
    try:
        return len(source)
    except TypeError:
        return 0


def _alone(item: Any) -> Any:
    """The images of an item without labels."""
    if isinstance(item, (tuple, list)) and len(item) == 1:
        return item[0]
    listed = isinstance(item, (tuple, list)) and len(item) > 0 and not _pictures(item)
    pair = listed and is_array(item[0])
    if isinstance(item, Mapping) or (pair and np.ndim(item[0]) > 1):
        raise ValueError("it has labels itself; omit labels")
    return item


def _pair(item: Any) -> tuple[Any, Any]:
    """The images and labels of an item."""
    if isinstance(item, Mapping):
        x = next((item[key] for key in IMAGES if key in item), None)
        y = next((item[key] for key in LABELS if key in item), None)
        if x is None or y is None:
            raise ValueError(
                f"it has the keys {', '.join(map(str, item))}; it needs images and labels"
            )
        return x, y
    if isinstance(item, (tuple, list)) and len(item) >= 2:
        return item[0], item[1]
    kind = type(item).__name__
    raise ValueError(f"it is {kind}; it must be a pair of images and labels, or give labels too")


def _pictures(x: Any) -> list[Image.Image]:
    """The pictures of Pillow in a value that is one or a list of them; else none."""
    found = [x] if isinstance(x, Image.Image) else x if isinstance(x, (list, tuple)) else []
    return [*found] if found and all(isinstance(one, Image.Image) for one in found) else []


def _with_batch_axis(x: Any) -> Any:
    """One image as a batch; a tensor remains a tensor."""
    return x[None] if isinstance(x, Tensor) else np.asarray(x)[None]
