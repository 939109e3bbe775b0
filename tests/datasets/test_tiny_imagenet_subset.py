"""Part of Tiny ImageNet: grey pictures and real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fixtures import files
from spearshield.dataset import Dataset
from spearshield.datasets.tiny_imagenet_subset import TinyImageNetSubset


def small(folder: Path) -> Dataset:
    (folder / "tiny_imagenet_subset").mkdir(parents=True)
    arrays: dict[str, object] = {"names": np.array(["goldfish", "newt"])}
    for split, n in (("train", 40), ("val", 20)):
        grey = files.encoded(files.noise(64, 64), "JPEG")
        images = [files.encoded(files.noise(64, 64, 3, seed=i), "JPEG") for i in range(1, n)]
        arrays[f"{split}_bytes"], arrays[f"{split}_offsets"] = files.packed(grey, *images)
        arrays[f"{split}_labels"] = np.arange(n) % 2
    np.savez_compressed(folder / "tiny_imagenet_subset" / "tiny_imagenet_14k.npz", **arrays)  # type: ignore
    return TinyImageNetSubset(validation=10)


def test_grey_images_get_three_channels(tmp_path: Path) -> None:
    first = small(tmp_path).read("test", tmp_path).pixels[0]
    assert (first == first[:1]).all()
    assert first.float().std() > 0


def test_real_test_images(data_dir: Path) -> None:
    test = TinyImageNetSubset().read("test", data_dir)
    assert test.pixels.shape == (4000, 3, 64, 64)
    assert test.y.bincount().tolist() == [20] * 200
    assert test.names[0] == "goldfish, Carassius auratus"
