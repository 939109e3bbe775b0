"""CelebA: 202,599 aligned photographs of faces, classified by one of 40 attributes.

Liu, Luo, Wang, Tang, "Deep Learning Face Attributes in the Wild", 2015.
https://arxiv.org/abs/1411.7766

As in Defense-GAN (Samangouei, Kabkab, Chellappa, 2018, https://arxiv.org/abs/1805.06605), the
central 108 x 108 pixels of each picture of 178 x 218 pixels are resized. ``train`` are the official
training images. The official validation images are not used, because ``validation`` is drawn from
``train`` as in every other data set.

``img_align_celeba.zip`` holds ``img_align_celeba/000001.jpg`` and so on. In
``list_attr_celeba.txt``, the first line is the number of rows, the second the names of the
attributes, and each row is the name of a file and 1 or -1 for each attribute. Each row of
``list_eval_partition.txt`` is the name of a file and 0 (train), 1 (validation) or 2 (test).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from spearshield.dataset import Dataset, Examples
from spearshield.ranges import require
from spearshield.storage.archives import UnsuitableError, corrupt_as_value_error
from spearshield.storage.downloads import File, locate
from spearshield.storage.images import fit, stack, zipped_pictures

_ADDRESS = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, for research only"

FILES = tuple(
    File(name, _ADDRESS)
    for name in ("img_align_celeba.zip", "list_attr_celeba.txt", "list_eval_partition.txt")
)

CROP = 108
_LARGEST = 1 << 20


@dataclass(frozen=True)
class CelebA(Dataset):
    """162,770 training and 19,962 test images in colour, of two classes.

    Args:
        size: Height and width of an image, in pixels.
        attribute: The attribute that divides the images into two classes.

    Raises:
        ValueError: ``size`` is not from 1 to 4000, or ``validation`` is negative.
    """

    validation: int = field(default=5000, kw_only=True)
    size: int = 64
    attribute: str = "Male"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "size", at_least=1, at_most=4000)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        archive, attributes, partition = locate("celeba", FILES, root)
        labels, parts = self._labels(attributes), _parts(partition)
        with (
            archive.open("rb") as file,
            corrupt_as_value_error(archive),
            zipfile.ZipFile(file) as members,
        ):
            inside = {n.rpartition("/")[2]: n for n in sorted(members.namelist()) if n[-1] != "/"}
            for text, rows in ((attributes, labels), (partition, parts)):
                if [*inside] != [*rows]:
                    raise UnsuitableError(
                        f"its {len(inside)} files are not the {len(rows)} of {text}"
                    )
            chosen = [name for name, part in parts.items() if part == split]
            pixels = stack(self._pictures(members, [inside[n] for n in chosen]), len(chosen))
        y = torch.tensor([labels[name] for name in chosen])
        return Examples.of(pixels, y, (f"not {self.attribute}", self.attribute))

    def _labels(self, path: Path) -> dict[str, int]:
        """The class of each file."""
        with corrupt_as_value_error(path):
            (count,), names, *rows = _rows(path)
            if self.attribute not in names:
                raise UnsuitableError(f"no attribute {self.attribute!r}; it has {', '.join(names)}")
            if len(rows) != int(count) or any(len(row) != 1 + len(names) for row in rows):
                raise UnsuitableError(f"it should have {count} rows of {len(names)} attributes")
            has = {"1": True, "-1": False}
            table = {name: [has[value] for value in row] for name, *row in rows}
            return {name: int(row[names.index(self.attribute)]) for name, row in table.items()}

    def _pictures(self, members: zipfile.ZipFile, names: list[str]) -> Iterator[Image.Image]:
        for name, image in zip(names, zipped_pictures(members, names, _LARGEST), strict=True):
            left, top = (image.width - CROP) // 2, (image.height - CROP) // 2
            if min(left, top) < 0:
                raise UnsuitableError(f"{name} has fewer than {CROP} x {CROP} pixels")
            middle = image.crop((left, top, left + CROP, top + CROP))
            yield fit(middle, (self.size, self.size))


def _parts(path: Path) -> dict[str, str]:
    """The split of each file."""
    words = {"0": "train", "1": "validation", "2": "test"}
    with corrupt_as_value_error(path):
        return {name: words[part] for name, part in _rows(path)}


def _rows(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text(encoding="ascii").splitlines()]
