"""Accuracy of networks with published weights, compared with the accuracies stated for them.

By default on part of the images, compared with the number of correct ones that was measured once;
under ``slow`` on all images, compared with the percentages stated.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from spearshield.classifiers import architecture
from spearshield.storage.weights import load_weights
from spearshield.types import Images, Labels, Shape

Data = tuple[Images, Labels]


@pytest.mark.parametrize(
    ("name", "weights", "stated"),
    [
        ("lenet5", "mnist_lenet5", 99.07),
        ("small_cnn", "mnist_small_advtrain_fgsm", 98.50),
        ("small_cnn", "mnist_small_provable_eps0.1", 98.20),
    ],
)
def test_mnist(data_dir: Path, name: str, weights: str, stated: float) -> None:
    x, y = _mnist(data_dir)
    right, _ = _count(_model(data_dir, name, weights, (1, 28, 28), 10), x, y)
    assert right / len(y) == pytest.approx(stated / 100, abs=0.0005)


@pytest.mark.parametrize(
    ("name", "images", "lossless", "jpeg"),
    [("resnet20", 500, 500, 399), ("resnet56", 200, 200, 172)],
)
def test_cifar_in_part(data_dir: Path, name: str, images: int, lossless: int, jpeg: int) -> None:
    model = _model(data_dir, name, f"cifar10_{name}", (3, 32, 32), 10)
    assert _count(model, *_cifar_lossless(data_dir, images))[0] == pytest.approx(lossless, abs=1)
    assert _count(model, *_cifar_jpeg(data_dir, images))[0] == pytest.approx(jpeg, abs=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lossless", "jpeg"), [("resnet20", 99.8, 81.0), ("resnet56", 100.0, 83.2)]
)
def test_cifar(data_dir: Path, name: str, lossless: float, jpeg: float) -> None:
    model = _model(data_dir, name, f"cifar10_{name}", (3, 32, 32), 10)
    right, _ = _count(model, *_cifar_lossless(data_dir, 4_000))
    assert right / 4_000 == pytest.approx(lossless / 100, abs=0.001)
    right, _ = _count(model, *_cifar_jpeg(data_dir, 10_000))
    assert right / 10_000 == pytest.approx(jpeg / 100, abs=0.001)


@pytest.mark.parametrize(
    ("name", "weights", "side", "counts"),
    [
        ("squeezenet", "imagenet_squeezenet1.1", 224, (64, 86)),
        ("mobilenet_v2", "imagenet_mobilenetv2_1.0_tfslim", 224, (84, 99)),
        ("mobilenet_v2", "imagenet_mobilenetv2_1.0_qat", 224, (84, 100)),
        ("mobilenet_v1", "imagenet_mobilenetv1_0.75_192_qat", 192, (79, 98)),
    ],
)
def test_imagenet_in_part(
    data_dir: Path, name: str, weights: str, side: int, counts: tuple[int, int]
) -> None:
    x, y = _imagenet(data_dir, side, every=10)
    found = _count(_model(data_dir, name, weights, (3, side, side), 1000), x, y)
    assert found == pytest.approx(counts, abs=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "weights", "side", "percent"),
    [
        ("squeezenet", "imagenet_squeezenet1.1", 224, (61.1, 83.1)),
        ("mobilenet_v2", "imagenet_mobilenetv2_1.0_tfslim", 224, (88.9, 98.3)),
        ("mobilenet_v2", "imagenet_mobilenetv2_1.0_qat", 224, (87.3, 97.8)),
        ("mobilenet_v1", "imagenet_mobilenetv1_0.75_192_qat", 192, (78.4, 94.7)),
    ],
)
def test_imagenet(
    data_dir: Path, name: str, weights: str, side: int, percent: tuple[float, float]
) -> None:
    x, y = _imagenet(data_dir, side, every=1)
    top1, top5 = _count(_model(data_dir, name, weights, (3, side, side), 1000), x, y)
    assert (top1 / 10, top5 / 10) == pytest.approx(percent, abs=0.3)


def _model(data_dir: Path, name: str, weights: str, shape: Shape, classes: int) -> nn.Module:
    model = architecture(name).build(shape, classes)
    load_weights(model, data_dir / "weights" / f"{weights}.npz")
    return model.eval()


@torch.no_grad()
def _count(model: nn.Module, x: Images, y: Labels) -> tuple[int, int]:
    """The numbers of images whose class is the first, and one of the first five, predictions."""
    guesses = torch.cat([model(batch).topk(5).indices for batch in x.split(20)])
    hits = guesses == y[:, None]
    return int(hits[:, 0].sum()), int(hits.any(1).sum())


def _images(pixels: NDArray[np.uint8]) -> Images:
    return torch.tensor(pixels).permute(0, 3, 1, 2).contiguous() / 255


def _labels(y: NDArray[np.integer]) -> Labels:
    return torch.tensor(y).long()


@cache
def _mnist(data_dir: Path) -> Data:
    def read(name: str, header: int) -> Tensor:
        content = gzip.decompress((data_dir / "mnist" / name).read_bytes())
        return torch.tensor(np.frombuffer(content, np.uint8, offset=header))

    x = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28) / 255
    return x, read("t10k-labels-idx1-ubyte.gz", 8).long()


def _cifar_lossless(data_dir: Path, count: int) -> Data:
    file = np.load(data_dir / "cifar10" / "cifar10_lossless_train4000.npz")
    return _images(file["images"][:count]), _labels(file["labels"][:count])


def _cifar_jpeg(data_dir: Path, count: int) -> Data:
    file = np.load(data_dir / "cifar10" / "cifar10_jpeg.npz")
    content, bounds = file["test_bytes"], file["test_offsets"]
    pixels = [
        np.asarray(Image.open(io.BytesIO(content[bounds[i] : bounds[i + 1]].tobytes())))
        for i in range(count)
    ]
    return _images(np.stack(pixels)), _labels(file["test_labels"][:count])


@cache
def _imagenet(data_dir: Path, side: int, every: int) -> Data:
    """One image in ``every``: shorter side resized to ``side / 0.875``, centre cropped."""
    with zipfile.ZipFile(data_dir / "imagenet_sample" / "imagenet_sample_1000.zip") as archive:
        names = sorted(archive.namelist())[::every]
        files = [io.BytesIO(archive.read(name)) for name in names]
    pixels = [_centre(Image.open(file).convert("RGB"), side) for file in files]
    return _images(np.stack(pixels)), torch.tensor([int(name[:3]) for name in names])


def _centre(image: Image.Image, side: int) -> NDArray[np.uint8]:
    scale = round(side / 0.875) / min(image.size)
    width, height = (round(size * scale) for size in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))
