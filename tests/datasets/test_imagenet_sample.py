"""ImageNet sample: test images only, named after their classes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures import files
from spearshield.dataset import Dataset
from spearshield.datasets.imagenet_sample import ImageNetSample

SPLITS = ("test",)
WNIDS = ("n01440764", "n01443537", "n01484850")


def small(folder: Path, wnids: tuple[str, ...] = WNIDS) -> Dataset:
    (folder / "imagenet_sample").mkdir(parents=True)
    with zipfile.ZipFile(folder / "imagenet_sample" / "imagenet_sample_1000.zip", "w") as archive:
        for i, wnid in enumerate(wnids):
            image = files.encoded(files.noise(40 + 10 * i, 50, 3, seed=i), "JPEG")
            archive.writestr(f"{i:03}_{wnid}.jpg", image)
    rows = [{"index": i, "wnid": w, "name": f"fish {i}"} for i, w in enumerate(WNIDS)]
    (folder / "imagenet_sample" / "imagenet_classes.json").write_text(json.dumps(rows))
    return ImageNetSample(size=28)


def test_there_are_no_training_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="test images only"):
        ImageNetSample().load("train", root=tmp_path)


def test_training_images_are_no_test_images(tmp_path: Path) -> None:
    small(tmp_path)
    data = ImageNetSample(size=28, training=2)
    train, test = data.read("train", tmp_path), data.read("test", tmp_path)
    assert len(train) == 2 and len(test) == 1
    assert sorted([*train.y.tolist(), *test.y.tolist()]) == [0, 1, 2]
    whole = ImageNetSample(size=28).read("test", tmp_path)
    assert torch.equal(train.pixels, whole.pixels[train.ids])
    with pytest.raises(ValueError, match="it has 3 images; training must be below that, got 3"):
        ImageNetSample(size=28, training=3).read("test", tmp_path)


@pytest.mark.parametrize("wnids", [(WNIDS[1], WNIDS[0], WNIDS[2]), WNIDS[:2]])
def test_pictures_are_named_after_the_classes(tmp_path: Path, wnids: tuple[str, ...]) -> None:
    data = small(tmp_path, wnids)
    with pytest.raises(ValueError, match=r"imagenet_sample_1000\.zip.*imagenet_classes\.json"):
        data.read("test", tmp_path)


def test_the_size_is_checked() -> None:
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        ImageNetSample(size=0)


def test_real_images(data_dir: Path) -> None:
    test = ImageNetSample(size=64).read("test", data_dir)
    assert test.pixels.shape == (1000, 3, 64, 64)
    assert test.y.tolist() == list(range(1000))
    assert test.names[:2] == ("tench", "goldfish")
    # natural photographs: bright in the middle of the range, and neighbours alike
    images = test.pixels.numpy().astype(float)
    assert 90 < images.mean() < 140
    assert np.abs(np.diff(images, axis=3)).mean() < 0.5 * images.std()
