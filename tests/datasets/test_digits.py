"""Digits: split and range."""

from __future__ import annotations

from pathlib import Path

import torch

from spearshield.dataset import Dataset
from spearshield.datasets.digits import Digits


def small(folder: Path) -> Dataset:
    return Digits()


def test_digits_are_split_once_and_span_the_whole_range() -> None:
    train, test = Digits().read("train", None), Digits().read("test", None)
    assert (len(train), len(test), train.shape) == (1437, 360, (1, 8, 8))
    assert train.y[:10].tolist() == list(range(10))
    for part in (train, test):
        levels = part.pixels.unique().tolist()
        assert levels == [round(v * 255 / 16) for v in range(17)]
    every = torch.cat([train.pixels, test.pixels]).flatten(1)
    assert len(every.unique(dim=0)) == 1797  # no test image is a training image
