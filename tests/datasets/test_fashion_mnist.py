"""Fashion-MNIST: files and classes."""

from __future__ import annotations

from pathlib import Path

from fixtures import files
from spearshield.dataset import Dataset
from spearshield.datasets.fashion_mnist import FILES, FashionMNIST
from spearshield.datasets.mnist import FILES as MNIST_FILES


def small(folder: Path) -> Dataset:
    files.idx_set(folder / "fashion_mnist")
    return FashionMNIST(validation=10)


def test_files_have_the_names_but_not_the_digests_of_mnist() -> None:
    for split, pair in FILES.items():
        for own, other in zip(pair, MNIST_FILES[split], strict=True):
            assert own.name == other.name
            assert own.sha256 != other.sha256


def test_ten_classes(tmp_path: Path) -> None:
    test = small(tmp_path).read("test", tmp_path)
    assert len(set(test.names)) == 10
