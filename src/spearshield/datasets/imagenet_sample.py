"""ImageNet sample: 1,000 natural photographs, one for each class of ImageNet-1k.

Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", 2015.
https://arxiv.org/abs/1409.0575

These are the first pictures of each class. They appear to be training images: the accuracy of
networks is far above the published one. Use them for attacks, not for a comparison of classifiers.

``imagenet_sample_1000.zip`` holds JPEG files named ``<class id, 3 digits>_<wnid>.jpg``;
``imagenet_classes.json`` is a list of the classes, each with its ``index``, ``wnid`` and ``name``.
The short side of each picture is resized to 8/7 of ``size`` (256 for 224), and the picture is
cropped around its middle.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spearshield.dataset import Dataset, Examples
from spearshield.ranges import require
from spearshield.rng import permutation
from spearshield.storage.archives import UnsuitableError, corrupt_as_value_error
from spearshield.storage.downloads import File, locate
from spearshield.storage.images import fit, stack, zipped_pictures

_ADDRESS = "https://github.com/EliSchwartz/imagenet-sample-images, "

FILES = (
    File("imagenet_sample_1000.zip", _ADDRESS + "renamed and zipped"),
    File("imagenet_classes.json", _ADDRESS + "its class names as JSON"),
)

_LARGEST = 4 << 20


@dataclass(frozen=True)
class ImageNetSample(Dataset):
    """1,000 images, all of them test images by default.

    Args:
        size: Height and width of an image, in pixels.
        training: Number of images that are training images in place of test images. They are drawn
            at random, always alike; a purifier of images needs images, not classes.

    Raises:
        ValueError: ``size`` is not positive, or ``training`` negative; from ``read``: there are not
            more than ``training`` images, or ``split`` is ``train`` and there are no training
            images.
    """

    size: int = 224
    training: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "size", at_least=1)
        require(self, "training", at_least=0)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        if split == "train" and not self.training:
            raise ValueError(
                "imagenet_sample has test images only; set training=700, or train on another data "
                "set"
            )
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
            if self.training >= len(names):
                raise UnsuitableError(
                    f"it has {len(names)} images; training must be below that, got {self.training}"
                )
            order = permutation(len(names), seed=0, epoch=0)
            drawn = order[: self.training] if split == "train" else order[self.training :]
            chosen = drawn.sort().values
            size = (self.size, self.size)
            pictures = zipped_pictures(members, [names[i] for i in chosen], _LARGEST)
            pixels = stack((fit(image, size, margin=8 / 7) for image in pictures), len(chosen))
            return Examples(pixels, chosen, chosen, tuple(listed.values()))
