"""CIFAR-10 as JPEG: location of the file, and closeness to the original pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures import files
from spearshield.dataset import Dataset
from spearshield.datasets.cifar10_jpeg import CIFAR10JPEG
from spearshield.datasets.npz import Npz


def small(folder: Path) -> Dataset:
    (folder / "cifar10_jpeg").mkdir(parents=True)
    arrays: dict[str, object] = {}
    for split, n in (("train", 40), ("test", 20)):
        images = [files.encoded(files.noise(32, 32, 3, seed=i), "JPEG") for i in range(n)]
        arrays[f"{split}_bytes"], arrays[f"{split}_offsets"] = files.packed(*images)
        arrays[f"{split}_labels"] = np.arange(n) % 10
    np.savez_compressed(folder / "cifar10_jpeg" / "cifar10_jpeg.npz", **arrays)  # type: ignore
    return CIFAR10JPEG(validation=10)


def test_it_is_found_in_the_folder_of_cifar10_as_well(tmp_path: Path) -> None:
    data = small(tmp_path)
    (tmp_path / "cifar10_jpeg").rename(tmp_path / "cifar10")
    assert len(data.read("test", tmp_path)) == 20


def test_real_test_images(data_dir: Path) -> None:
    test = CIFAR10JPEG().read("test", data_dir)
    assert test.pixels.shape == (10_000, 3, 32, 32)
    assert test.y[:20].tolist() == [*range(10), *range(10)]
    assert test.y.bincount().tolist() == [1000] * 10


@pytest.mark.slow
def test_real_training_images_are_close_to_the_original_pixels(data_dir: Path) -> None:
    """In the order of CIFAR-10, with the channels in their order: 30.5 dB away, as stated."""
    lossy = CIFAR10JPEG().read("train", data_dir)
    exact = Npz(path="cifar10/cifar10_lossless_train4000.npz").read("test", data_dir)
    assert len(lossy) == 50_000
    assert torch.equal(lossy.y[:4000], exact.y)
    errors = lossy.pixels[:4000].float() - exact.pixels.float()
    psnr = 10 * torch.log10(255**2 / errors.square().flatten(1).mean(1))
    assert float(psnr.median()) == pytest.approx(30.5, abs=0.1)
    assert float(psnr.min()) > 20
