"""MNIST: 70,000 handwritten digits of 28 x 28 pixels in 10 classes.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998.
https://doi.org/10.1109/5.726791
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spearshield.dataset import Dataset, Examples
from spearshield.storage import idx
from spearshield.storage.downloads import locate

FILES = idx.published(
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    train=(
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    test=(
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)

NAMES = tuple("0123456789")


@dataclass(frozen=True)
class MNIST(Dataset):
    """60,000 training and 10,000 test images, grey."""

    validation: int = field(default=5000, kw_only=True)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        images, labels = locate("mnist", FILES[split], root, beside=["MNIST/raw"])
        return idx.examples(images, labels, NAMES)
