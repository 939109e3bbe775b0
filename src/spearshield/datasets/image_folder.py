"""Image folder: PNG and JPEG files in one folder per class.

The folder has one of three forms:

- ``train/<class>/`` and ``test/<class>/``, or one of the two;
- ``<class>/``: every image is a test image;
- images and no folders: every image is a test image of the one class ``unlabelled``.

Folders ``val``, ``valid`` and ``validation`` beside these are not read. Class ids follow the order
of the class folders, in ``train`` if it exists: by number if all names are numbers (0, 1, 2, 10),
else by text. :attr:`~spearshield.dataset.Examples.names` holds the folder of each id. Images are in
the order of their names. Files that do not end in .png, .jpg or .jpeg are ignored, as are names
that begin with a dot; pictures in other formats are refused. EXIF's rotation is applied, palettes
are resolved, transparent pixels are put on white, and colour profiles are ignored.

Images of more than 1 GiB of pixels stay on disk: worker processes decode those of a batch when
they are needed, so memory does not grow with the folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from spearshield.dataset import Dataset, Examples, MissingSplitError
from spearshield.pixels import MOST_CLASSES
from spearshield.ranges import require
from spearshield.storage.downloads import locate_path
from spearshield.storage.images import (
    SUFFIXES,
    check_size,
    fit,
    is_grey,
    picture_files,
    read,
    stack,
)
from spearshield.storage.picture_pixels import PicturePixels

UNLABELLED = "unlabelled"
"""The class of images that are in no class folder."""

IN_MEMORY = 1 << 30
"""Largest size of all pixels, in bytes, that is kept in memory; others are read when needed."""

PARTS = ("train", "test", "val", "valid", "validation")
"""Names of folders that hold class folders; of these, ``train`` and ``test`` are read."""


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """PNG and JPEG files of at most 16 million pixels with 8 bits per channel.

    Args:
        path: The folder, relative to the working directory or to a data folder.
        size: Height and width in pixels. Images are resized until they cover it, and cropped around
            the middle. ``None``: they keep their size, which must be the same for all.
        channels: 3, or 1 for grey; images are converted. ``None``: 1 if all images are stored as
            grey, else 3.
        classes: Number of classes, if some classes have no folder. Class folders with numbers for
            names are then class ids themselves. ``None``: the number of class folders.

    Raises:
        ValueError: ``channels``, ``size``, ``classes`` or ``validation`` is out of range.
    """

    path: str = ""
    size: tuple[int, int] | None = None
    channels: int | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels not in (1, 3, None):
            raise ValueError(f"channels must be 1 or 3, got {self.channels}")
        require(self, "classes", at_least=1, at_most=MOST_CLASSES)
        check_size(self.size)

    @property
    def display_name(self) -> str:
        """The name of the folder."""
        return Path(self.path).name

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        folder = locate_path(self.path, root)
        files, folders = _listed(folder, split)
        names = self._names(folder, folders)
        paths = [file for file, _ in files]
        ids = {name: i for i, name in enumerate(names)}
        y = torch.tensor([ids[name] for _, name in files])
        channels = self.channels or (1 if all(map(is_grey, paths)) else 3)
        first = read(paths[0], channels)
        size = self.size or (first.height, first.width)
        if len(paths) * channels * math.prod(size) <= IN_MEMORY:
            return Examples.of(stack(self._pictures(paths, channels), len(paths)), y, names)
        rows, resize = torch.arange(len(paths)), self.size is not None
        pixels = PicturePixels(tuple(paths), channels, size, resize, rows)
        return Examples(pixels, y, rows, names)

    def _names(self, folder: Path, folders: list[str]) -> tuple[str, ...]:
        """The names of all classes, in the order of their ids."""
        if self.classes is None:
            return tuple(folders)
        if all(map(_is_number, folders)):
            by_id = {int(name): name for name in folders}
            names = tuple(by_id.get(i, str(i)) for i in range(self.classes))
        else:
            names = (*folders[: self.classes], *map(str, range(len(folders), self.classes)))
        if outside := [name for name in folders if name not in names]:
            raise ValueError(
                f"{folder} has the class folder {outside[0]!r}, but classes is {self.classes}: "
                f"class ids are 0 to {self.classes - 1}; without classes, ids follow the order of "
                "the folders"
            )
        return names

    def _pictures(self, files: list[Path], channels: int) -> Iterator[Image.Image]:
        first: tuple[int, int] | None = None
        for file in files:
            image = read(file, channels)
            if self.size is not None:
                image = fit(image, self.size)
            first = first or image.size
            if image.size != first:
                width, height = first
                raise ValueError(
                    f"{file} has {image.width} x {image.height} pixels but {files[0]} has {width} "
                    f"x {height}; set the size to a height and a width, to which all are resized: "
                    f"--size {height}x{width}, or datasets.ImageFolder(path, size=({height}, "
                    f"{width}))"
                )
            yield image


def _listed(folder: Path, split: str) -> tuple[list[tuple[Path, str]], list[str]]:
    """The files of a split with the names of their classes, and the names of all class folders."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    parts = _parts(folder)
    if split not in (parts or {"test": folder}):
        held = f"; it has {', '.join(parts)}: rename the one to read" if parts else ""
        raise MissingSplitError(
            f"{folder} has no folder {split!r}, so it has no {split} images{held}",
            divided=bool(parts),
        )
    part = parts.get(split, folder)
    names = [c.name for c in _folders(parts.get("train", part))]
    files = []
    for c in _folders(part):
        if c.name not in names:
            raise ValueError(f"{c} is a class that {parts['train']} does not have")
        files += [(file, c.name) for file in _images(c)]
    loose = picture_files(part)
    if not files and not names:
        files, names = [(file, UNLABELLED) for file in loose], [UNLABELLED]
    elif loose:
        raise ValueError(f"{loose[0]} is outside the class folders; move it into one of them")
    if not files:
        raise ValueError(f"{part} holds no {', '.join(SUFFIXES)} files, and no folders of them")
    return files, names


def _parts(folder: Path) -> dict[str, Path]:
    """The folders of the splits, unless they are class folders with such names, beside others."""
    inside = _folders(folder)
    parts = {part.name: part for part in inside if part.name in PARTS}
    divided = len(parts) == len(inside) or any(map(_folders, parts.values()))
    return parts if divided else {}


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, in the order of their numbers or names."""
    found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    numbered = all(_is_number(p.name) for p in found)
    return sorted(found, key=lambda p: int(p.name)) if numbered else found


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _images(c: Path) -> list[Path]:
    """The pictures in a class folder.

    Raises:
        ValueError: There are none, or some in a folder of their own.
    """
    files, inner = picture_files(c), _folders(c)
    if inner and any(picture_files(folder, deep=True) for folder in inner):
        raise ValueError(
            f"{c} has pictures in its folder {inner[0].name}; move them into {c}, or name the "
            "folder whose folders are the classes"
        )
    if not files:
        raise ValueError(f"{c} holds no {', '.join(SUFFIXES)} files")
    return files
