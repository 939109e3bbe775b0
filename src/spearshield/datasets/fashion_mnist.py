"""Fashion-MNIST: 70,000 grey photographs of clothes of 28 x 28 pixels in 10 classes.

Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", 2017. https://arxiv.org/abs/1708.07747
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spearshield.dataset import Dataset, Examples
from spearshield.storage import idx
from spearshield.storage.downloads import locate

FILES = idx.published(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    train=(
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    test=(
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)

NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class FashionMNIST(Dataset):
    """60,000 training and 10,000 test images, grey."""

    validation: int = field(default=5000, kw_only=True)

    def read(self, split: Literal["train", "test"], root: Path | None) -> Examples:
        images, labels = locate("fashion_mnist", FILES[split], root, beside=["FashionMNIST/raw"])
        return idx.examples(images, labels, NAMES)
