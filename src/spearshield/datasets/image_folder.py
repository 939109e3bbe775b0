"""Image folder: a folder of your own PNG and JPEG images, by class.

One of three forms, told apart by what is there:

- ``train/<class>/`` and ``test/<class>/``, or one of the two;
- ``<class>/``: every image is a test image;
- images and no folders: every image is a test image of the one class ``unlabelled``.

Class ids follow the sorted names of the class folders, in ``train`` if it is there. Images are
sorted by name. Files that do not end in .png, .jpg or .jpeg are passed over, and so is what begins
with a dot. EXIF's rotation is applied, a palette resolved, and what is transparent laid on white.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from spearshield.dataset import Dataset, Examples
from spearshield.storage.downloads import locate_path
from spearshield.storage.images import fit, read, stack

SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """PNG and JPEG files of at most 16 million pixels.

    Args:
        path: The folder; relative to the working directory or to a folder with data.
        size: Height and width to which images are resized, the short side first, and cut, in the
            middle. ``None``: they are left as they are, and all have the same size.
        channels: 3, or 1 for grey.

    Raises:
        ValueError: ``channels`` or ``size`` is none of these.
    """

    path: str = ""
    size: tuple[int, int] | None = None
    channels: int = 3

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels}")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValueError(f"size must be a height and a width in pixels, got {self.size}")

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        folder = locate_path(self.path, root)
        files, names = _listed(folder, split)
        y = torch.tensor([label for _, label in files])
        pixels = stack(self._pictures([file for file, _ in files]), len(files))
        return Examples.of(pixels, y, names)

    def _pictures(self, files: list[Path]) -> Iterator[Image.Image]:
        first: tuple[int, int] | None = None
        for file in files:
            image = read(file, self.channels)
            if self.size is not None:
                image = fit(image, self.size)
            first = first or image.size
            if image.size != first:
                sizes = "{} x {}".format(*image.size), "{} x {}".format(*first)
                raise ValueError(
                    f"{file} has {sizes[0]} pixels but {files[0]} has {sizes[1]}; "
                    "set size to a height and a width, as size=224,224"
                )
            yield image


def _listed(folder: Path, split: str) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """The files of a split with their labels, and the names of the classes."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    parts = {part.name: part for part in _folders(folder) if part.name in ("train", "test")}
    if split not in (parts or {"test": folder}):
        raise ValueError(f"{folder} has no folder {split!r}, so it has no {split} images")
    part = parts.get(split, folder)
    names = [c.name for c in _folders(parts.get("train", part))]
    files = []
    for c in _folders(part):
        if c.name not in names:
            raise ValueError(f"{c} is a class that {parts['train']} does not have")
        if not _images(c):
            raise ValueError(f"{c} holds no {', '.join(SUFFIXES)} files")
        files += [(file, names.index(c.name)) for file in _images(c)]
    loose = _images(part)
    if not files and not names:
        files, names = [(file, 0) for file in loose], ["unlabelled"]
    elif loose:
        raise ValueError(f"{loose[0]} lies beside folders of classes; move it into one")
    if not files:
        raise ValueError(f"{part} holds no {', '.join(SUFFIXES)} files, and no folders of them")
    return files, tuple(names)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return sorted(
        p
        for p in folder.iterdir()
        if p.is_file() and p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )
