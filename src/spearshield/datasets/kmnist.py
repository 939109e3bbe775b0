"""Kuzushiji-MNIST: 70,000 cursive Japanese characters of 28 x 28 pixels in 10 classes.

Clanuwat, Bober-Irizar, Kitamoto, Lamb, Yamamoto, Ha, "Deep Learning for Classical Japanese
Literature", 2018. https://arxiv.org/abs/1812.01718
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spearshield.dataset import Dataset, Examples
from spearshield.storage import idx
from spearshield.storage.downloads import locate

FILES = idx.published(
    "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    train=(
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    ),
    test=(
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
)

NAMES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


@dataclass(frozen=True)
class KMNIST(Dataset):
    """60,000 training and 10,000 test images, grey; a class is the sound of a character."""

    validation: int = field(default=5000, kw_only=True)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        images, labels = locate("kmnist", FILES[split], root, beside=["KMNIST/raw"])
        return idx.examples(images, labels, NAMES)
