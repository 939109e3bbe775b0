"""CIFAR-10: order of channels and batches, and broken archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from fixtures import files
from spearshield.dataset import Dataset
from spearshield.datasets.cifar10 import CIFAR10

BATCHES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]


def small(folder: Path) -> Dataset:
    write(folder, {name: batch(seed) for seed, name in enumerate([*BATCHES, "test_batch"])})
    return CIFAR10(validation=10)


def batch(seed: int) -> bytes:
    """Ten records: a label, then red, green and blue, row by row."""
    labels = np.arange(10, dtype=np.uint8)[:, None]
    return np.hstack([labels, files.noise(10, 3072, seed=seed)]).tobytes()


def write(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "cifar10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {"batches.meta.txt": b"airplane", **members}.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_channels_come_first_and_batches_in_order(tmp_path: Path) -> None:
    train = small(tmp_path).read("train", tmp_path)
    second = files.noise(10, 3072, seed=1).reshape(10, 3, 32, 32)
    assert len(train) == 50
    assert (train.pixels[10:20].numpy() == second).all()
    assert train.y[:12].tolist() == [*range(10), 0, 1]


@pytest.mark.parametrize("content", [batch(0)[:-1], b""], ids=["cut", "empty"])
def test_a_batch_of_broken_records_is_refused(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, {"test_batch": content})
    with pytest.raises(ValueError, match=r"cifar-10-binary.*test_batch\.bin has \d+ bytes"):
        CIFAR10().read("test", tmp_path)


def test_an_archive_without_a_batch_is_refused(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(BATCHES[:4], batch(0)))
    with pytest.raises(ValueError, match=r"cifar-10-binary.*data_batch_5\.bin"):
        CIFAR10().read("train", tmp_path)


def test_a_label_past_the_last_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"test_batch": b"\x0a" + batch(0)[1:]})
    with pytest.raises(ValueError, match=r"cifar-10-binary.*labels run from 1 to 10"):
        CIFAR10().read("test", tmp_path)
