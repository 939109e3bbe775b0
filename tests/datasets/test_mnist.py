"""MNIST: pixels and labels of small and of real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import files
from spearshield.dataset import Dataset
from spearshield.datasets.mnist import MNIST


def small(folder: Path) -> Dataset:
    files.idx_set(folder / "mnist")
    return MNIST(validation=10)


def test_pixels_and_labels_are_those_of_the_files(tmp_path: Path) -> None:
    small(tmp_path)
    test = MNIST().read("test", tmp_path)
    assert (test.pixels[:, 0].numpy() == files.noise(20, 28, 28, seed=20)).all()
    assert test.y.tolist() == [i % 10 for i in range(20)]


def test_the_real_files(data_dir: Path) -> None:
    train, test = MNIST().read("train", data_dir), MNIST().read("test", data_dir)
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.y[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert test.y.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert float(train.images().mean()) == pytest.approx(0.1307, abs=5e-5)
    assert float(train.images().std()) == pytest.approx(0.3081, abs=5e-5)
    assert len(MNIST().load("validation", root=data_dir)) == 5000
