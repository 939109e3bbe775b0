"""Images in whatever form a user has them, as examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from spearshield.arguments import path
from spearshield.dataset import Dataset, Examples, MissingSplitError, Split
from spearshield.datasets import dataset
from spearshield.datasets.image_folder import UNLABELLED
from spearshield.discover import name_of
from spearshield.experiment.batches import collected, is_array
from spearshield.pixels import as_labels, as_pixels, check_lengths
from spearshield.rng import permutation
from spearshield.types import Labels

ImageSource: TypeAlias = (
    "Tensor | NDArray[Any] | Dataset | Examples | str | Path | Iterable[Any] | TorchDataset[Any]"
)
"""Images as a tensor or array, a data set or its name, a path, or batches of (images, labels)."""

LabelSource: TypeAlias = "Tensor | NDArray[Any] | Sequence[int] | None"


def as_examples(
    images: ImageSource,
    labels: LabelSource = None,
    *,
    split: Split = "test",
    otherwise: Split | None = None,
    seed: int = 0,
    root: Path | None = None,
    limit: int = 0,
) -> Examples:
    """Images and labels as examples, with 8-bit pixels as an image file has them.

    Args:
        images: A tensor or array of floats in [0, 1] or of 8-bit numbers, of shape (n, c, h, w),
            (n, h, w, c) or (n, h, w); a data set of this package, its name, or the path of an npz
            file or a folder; or batches: a ``DataLoader``, a data set of PyTorch, a generator or a
            list. A batch is a tuple, list or dictionary with images and labels, or one image with
            its label; where ``labels`` are given, images alone. Batches are read once. Randomness
            belongs to an image's position, so a loader that shuffles gives other results each time.
        labels: Class ids of shape (n,); omitted if ``images`` contains labels. For a folder without
            class folders, in the order of its file names.
        split: The part of a data set.
        otherwise: The part to read of a user's npz file or folder that does not name its parts.
        seed: Decides which images of a data set belong to its validation part.
        root: A folder to look for data in first.
        limit: Of batches, take the first images, and read no further batch; 0: all.

    Raises:
        ValueError: The images or labels do not have one of these forms.
        FileNotFoundError: There is no such file.
    """
    if isinstance(images, (str, Path)):
        images = dataset(str(path("images", images)))
    if isinstance(images, Dataset):
        loaded = _loaded(images, split, otherwise, seed, root)
        images = replace(loaded, source=name_of(images))
    if isinstance(images, Examples):
        return _labelled(images, labels)
    if not is_array(images):
        images, labels = collected(images, labels, limit)
    if labels is None:
        raise ValueError("labels are missing: give the class of each image")
    pixels, y = as_pixels(images), as_labels(labels).cpu()
    check_lengths(len(pixels), len(y))
    return Examples.of(pixels, y, _numbered(y))


def drawn(examples: Examples, usual: int, limit: int | None) -> Examples:
    """At most ``limit`` of the examples, drawn by seed 0; 0: all.

    Args:
        usual: The number where ``limit`` is ``None``.
    """
    count = usual if limit is None else limit
    if not count or count >= len(examples):
        return examples
    return examples[permutation(len(examples), 0, epoch=0)[:count]]


def training_examples(images: ImageSource, labels: LabelSource, seed: int) -> Examples:
    """Training images; of data that do not name their parts, all. See :func:`as_examples`."""
    return as_examples(images, labels, split="train", otherwise="test", seed=seed)


def _loaded(
    data: Dataset, split: Split, otherwise: Split | None, seed: int, root: Path | None
) -> Examples:
    try:
        return data.load(split, root=root, seed=seed)
    except MissingSplitError as missing:
        if otherwise is None or missing.divided:
            raise
        try:
            return data.load(otherwise, root=root, seed=seed)
        except MissingSplitError:
            raise missing from None


def _labelled(images: Examples, labels: LabelSource) -> Examples:
    """Examples of a data set, with labels if they have none of their own."""
    if len(images) == 0:
        raise ValueError(f"{images.source} holds no images")
    if images.names != (UNLABELLED,):
        if labels is not None:
            raise ValueError("these images have labels; omit labels")
        return images
    if labels is None:
        raise ValueError(
            f"labels are missing: {images.source} has no class folders; move its images into one "
            "folder for each class"
        )
    y = as_labels(labels).cpu()
    check_lengths(len(images), len(y))
    return replace(images, y=y, names=_numbered(y))


def _numbered(y: Labels) -> tuple[str, ...]:
    """The numbers of the classes as their names."""
    return tuple(map(str, range(1 + int(y.max()))))


def with_classes(examples: Examples, classes: int) -> Examples:
    """The examples with names for a number of classes."""
    if classes == examples.classes:
        return examples
    names = (*examples.names, *map(str, range(examples.classes, classes)))[:classes]
    return replace(examples, names=names)
