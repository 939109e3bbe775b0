"""IDX files: shapes and lengths are checked, with and without gzip."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures import files
from spearshield import datasets
from spearshield.datasets.mnist import MNIST
from spearshield.storage import idx

NAMES = tuple("0123456789")
LABELS = files.idx(np.arange(4, dtype=np.uint8))
HEAD = struct.pack(">4I", 0x803, 4, 28, 28)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (gzip.compress(HEAD + bytes(4 * 784 - 1)), "but 3135 bytes follow"),
        (gzip.compress(HEAD + bytes(4 * 784 + 1)), "but 3137 bytes follow"),
        (gzip.compress(HEAD[:10]), "unpack requires a buffer"),
        (gzip.compress(b""), "it starts with , not 00000803"),
        (b"", "it starts with , not 00000803"),
        (LABELS, "it starts with 00000801, not 00000803"),
        (HEAD + bytes(4 * 784), "Not a gzipped file"),
        (files.idx(files.noise(4, 32, 32)), r"shape \(4, 32, 32\)"),
        (files.idx(files.noise(0, 28, 28)), r"shape \(0, 28, 28\)"),
        (files.idx(np.ones((4, 28, 28), np.uint8)), "brightest pixel is 1 of 255"),
    ],
    ids=[
        "short",
        "long",
        "half a head",
        "nothing",
        "empty",
        "labels",
        "raw",
        "32 x 32",
        "none",
        "black",
    ],
)
def test_other_images_are_refused(tmp_path: Path, images: bytes, message: str) -> None:
    x, y = tmp_path / "x.gz", tmp_path / "y.gz"
    x.write_bytes(images)
    y.write_bytes(LABELS)
    with pytest.raises(ValueError, match=rf"x\.gz.*{message}"):
        idx.examples(x, y, NAMES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(3, dtype=np.uint8), "3 labels for 4 images"),
        (np.array([0, 1, 2, 10], np.uint8), "its largest label is 10, of 10 classes"),
    ],
)
def test_other_labels_are_refused(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    x, y = tmp_path / "x.gz", tmp_path / "y.gz"
    x.write_bytes(files.idx(files.noise(4, 28, 28)))
    y.write_bytes(files.idx(labels))
    with pytest.raises(ValueError, match=rf"y\.gz.*{message}"):
        idx.examples(x, y, NAMES)


def test_unzipped_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    files.idx_set(folder)
    zipped = MNIST().read("test", tmp_path)
    for path in folder.iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert torch.equal(MNIST().read("test", tmp_path).pixels, zipped.pixels)
    short = folder / "t10k-images-idx3-ubyte"
    short.write_bytes(short.read_bytes()[:-1])
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte is truncated"):
        MNIST().read("test", tmp_path)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
@pytest.mark.parametrize("unzipped", [True, False])
def test_the_folders_of_torchvision_are_read(tmp_path: Path, name: str, unzipped: bool) -> None:
    data = getattr(datasets, name)()
    folder = tmp_path / name / "raw"
    files.idx_set(folder)
    for path in [*folder.iterdir()] if unzipped else []:
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    for root in (tmp_path, folder):
        assert (
            data.read("test", root).pixels[:, 0].numpy() == files.noise(20, 28, 28, seed=20)
        ).all()


def test_nearly_black_images_are_refused_by_the_name_of_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    files.idx_set(folder)
    path = folder / "t10k-images-idx3-ubyte"
    header = gzip.decompress(path.with_suffix(".gz").read_bytes())[:16]
    path.with_suffix(".gz").unlink()
    path.write_bytes(header + b"\1" * (20 * 28 * 28))
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte: the brightest pixel is 1 of 255"):
        MNIST().read("test", tmp_path)
