"""Images in whatever form a user has them, as examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spearshield.dataset import Dataset, Examples, Split, eight_bit
from spearshield.datasets import dataset
from spearshield.discover import name_of

ImageSource: TypeAlias = "Tensor | NDArray[Any] | Dataset | Examples | str | Path | Iterable[Any]"
"""Images as a tensor or array, a data set or its name, a path, or batches of (images, labels)."""

LabelSource: TypeAlias = "Tensor | NDArray[Any] | Sequence[int] | None"


def as_examples(
    images: ImageSource,
    labels: LabelSource = None,
    *,
    classes: int | None = None,
    split: Split = "test",
    seed: int = 0,
    root: Path | None = None,
    limit: int = 0,
) -> Examples:
    """Images and labels as examples, with 8-bit pixels as an image file has them.

    Args:
        images: A tensor or array of floats in [0, 1] or of 8-bit numbers, of shape (n, c, h, w),
            (n, h, w, c) or (n, h, w); a data set, its name, or the path of an npz file or a folder;
            or batches of (images, labels), such as a ``DataLoader``.
        labels: Class ids of shape (n,); omitted if ``images`` contains labels.
        classes: The number of classes; by default one more than the largest label.
        split: The part of a data set.
        seed: Decides which images of a data set belong to its validation part.
        root: A folder to look for data in first.
        limit: Take only so many images, from the first; 0: all.

    Raises:
        ValueError: The images or labels do not have one of these forms.
        FileNotFoundError: There is no such file.
    """
    if isinstance(images, (str, Path)):
        images = dataset(str(images))
    if isinstance(images, Dataset):
        loaded = images.load(split, root=root, seed=seed)
        images = replace(loaded, source=name_of(images))
    if isinstance(images, Examples):
        if labels is not None:
            raise ValueError("these images have labels; omit labels")
        return with_classes(images[:limit] if limit else images, classes)
    if not isinstance(images, (Tensor, np.ndarray)):
        images, labels = _collected(images, labels, limit)
    if labels is None:
        raise ValueError("labels are missing: give the class of each image")
    pixels, y = pixels_of(images), class_ids(labels)
    if len(pixels) != len(y):
        raise ValueError(f"there are {len(pixels)} images and {len(y)} labels; give one for each")
    if limit:
        pixels, y = pixels[:limit], y[:limit]
    count = classes or 1 + int(y.max())
    return Examples.of(pixels, y, tuple(map(str, range(count))))


def pixels_of(images: Tensor | NDArray[Any]) -> Tensor:
    """Images as 8-bit pixels of shape (n, c, h, w), on the CPU.

    Raises:
        ValueError: Their shape, type or range is wrong.
    """
    x = eight_bit(images.detach().cpu() if isinstance(images, Tensor) else images)
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(
            f"images have shape {tuple(x.shape)}; they must be (n, c, h, w), (n, h, w, c) or "
            "(n, h, w), and at least one"
        )
    if x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.permute(0, 3, 1, 2)
    return x.contiguous()


def class_ids(labels: LabelSource) -> Tensor:
    """Labels as class ids of shape (n,).

    Raises:
        ValueError: They are not whole numbers of at least 0, one for each image.
    """
    y = torch.as_tensor(cast("Any", labels)).detach().cpu()
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or len(y) == 0 or y.is_floating_point() or y.is_complex():
        raise ValueError(
            f"labels are {y.dtype} of shape {tuple(y.shape)}; they must be whole numbers, one "
            "class id for each image (take argmax(1) of one-hot labels)"
        )
    if int(y.min()) < 0:
        raise ValueError(f"the smallest label is {int(y.min())}; class ids begin at 0")
    return y.long()


def _collected(
    batches: Iterable[Any], labels: LabelSource, limit: int
) -> tuple[Tensor, Tensor | None]:
    """The images and labels of all batches, or of the first that hold ``limit`` images."""
    if labels is not None:
        raise ValueError("batches have labels; omit labels")
    images: list[Tensor] = []
    ids: list[Tensor] = []
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise ValueError(
                f"a batch is {type(batch).__name__}; each batch must be a pair of images and labels"
            )
        x, y = torch.as_tensor(batch[0]), torch.as_tensor(batch[1])
        images.append(pixels_of(x if x.ndim == 4 else x[None]))
        ids.append(class_ids(y if y.ndim else y[None]))
        if limit and sum(map(len, ids)) >= limit:
            break
    if not images:
        raise ValueError("there are no batches, so there are no images")
    return torch.cat(images), torch.cat(ids)


def with_classes(examples: Examples, classes: int | None) -> Examples:
    """The examples with names for ``classes`` classes; ``None``: with the names that they have."""
    if classes is None or classes == examples.classes:
        return examples
    names = (*examples.names, *map(str, range(examples.classes, classes)))[:classes]
    return replace(examples, names=names)
