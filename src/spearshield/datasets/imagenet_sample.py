"""ImageNet sample: 1,000 natural photographs, one for each class of ImageNet-1k.

Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", 2015.
https://arxiv.org/abs/1409.0575

These are the first pictures of each class, apparently training images: networks score far above
their published accuracy on them. Use them to attack and to look at, not to rank classifiers.

``imagenet_sample_1000.zip`` holds JPEG files named ``<class id, 3 digits>_<wnid>.jpg``;
``imagenet_classes.json`` is a list of the classes, each with its ``index``, ``wnid`` and ``name``.
The short side of each picture is resized to 8/7 of ``size`` (256 for 224), and the picture is
cropped around its middle.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from spearshield.dataset import Dataset, Examples
from spearshield.ranges import require
from spearshield.storage.archives import UnsuitableError, corrupt_as_value_error
from spearshield.storage.downloads import File, locate
from spearshield.storage.images import fit, picture, stack

_ADDRESS = "https://github.com/EliSchwartz/imagenet-sample-images, "

FILES = (
    File("imagenet_sample_1000.zip", _ADDRESS + "renamed and zipped"),
    File("imagenet_classes.json", _ADDRESS + "its class names as JSON"),
)

_LARGEST = 4 << 20


@dataclass(frozen=True)
class ImageNetSample(Dataset):
    """1,000 test images, without training images.

    Args:
        size: Height and width of an image, in pixels.

    Raises:
        ValueError: ``size`` is not positive; from ``read``: ``split`` is ``train``.
    """

    size: int = 224

    def __post_init__(self) -> None:
        require(self, "size", at_least=1)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        if split == "train":
            raise ValueError("imagenet_sample has test images only; train on another data set")
        archive, classes = locate("imagenet_sample", FILES, root)
        content = classes.read_bytes()
        with corrupt_as_value_error(classes):
            listed = {row["wnid"]: row["name"] for row in json.loads(content)}
        with (
            archive.open("rb") as file,
            corrupt_as_value_error(archive),
            zipfile.ZipFile(file) as members,
        ):
            names = sorted(members.namelist())
            if names != [f"{i:03}_{wnid}.jpg" for i, wnid in enumerate(listed)]:
                raise UnsuitableError(
                    f"its {len(names)} names do not follow the classes in {classes}"
                )
            pixels = stack(self._pictures(members, names), len(names))
            return Examples.of(pixels, torch.arange(len(names)), tuple(listed.values()))

    def _pictures(self, members: zipfile.ZipFile, names: list[str]) -> Iterator[Image.Image]:
        for name in names:
            if members.getinfo(name).file_size > _LARGEST:
                raise UnsuitableError(f"{name} unpacks to more than {_LARGEST} bytes")
            with corrupt_as_value_error(name):
                image = picture(members.read(name), 3)
            yield fit(image, (self.size, self.size), margin=8 / 7)
