"""SVHN: classes, orientation, and refused arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fixtures import files
from spearshield.dataset import Dataset
from spearshield.datasets.svhn import SVHN


def small(folder: Path) -> Dataset:
    (folder / "svhn").mkdir(parents=True)
    for split, n in (("train", 40), ("test", 20)):
        write(folder, split, files.noise(32, 32, 3, n, seed=n), np.arange(n) % 10 + 1)
    return SVHN(validation=10)


def write(folder: Path, split: str, x: object, y: np.ndarray) -> Path:
    path = folder / "svhn" / f"{split}_32x32.mat"
    savemat(path, {"X": x, "y": y.astype(np.uint8)[:, None]}, do_compression=True)
    return path


def test_class_10_is_the_digit_0_and_images_are_not_turned(tmp_path: Path) -> None:
    test = small(tmp_path).read("test", tmp_path)
    assert test.y.tolist() == [*range(1, 10), 0] * 2
    stored = files.noise(32, 32, 3, 20, seed=20)  # row, column, channel, image
    assert test.pixels[7, 2, 5, 11] == int(stored[5, 11, 2, 7])


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (files.noise(32, 32, 3, 20), np.arange(20)),  # a 0 among labels that start at 1
        (files.noise(32, 32, 3, 20), np.arange(20) + 1),  # 20 classes
        (files.noise(32, 32, 3, 19), np.ones(20)),
        (files.noise(20, 32, 32, 3), np.ones(20)),
        (files.noise(32, 32, 3, 20).astype(float), np.ones(20)),
    ],
    ids=["label 0", "label 20", "19 images", "images first", "floats"],
)
def test_other_arrays_are_refused(tmp_path: Path, x: np.ndarray, y: np.ndarray) -> None:
    small(tmp_path)
    path = write(tmp_path, "test", x, y)
    with pytest.raises(ValueError, match=str(path)):
        SVHN().read("test", tmp_path)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    small(tmp_path)
    path = tmp_path / "svhn" / "test_32x32.mat"
    content = bytearray(path.read_bytes())
    for place in range(200, len(content), len(content) // 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match=str(path)):
            SVHN().read("test", tmp_path)
