"""TensorFlow's "SAME" padding, against its definition."""

from __future__ import annotations

import pytest
import torch

from spearshield.nets.same_padding import SamePad, same_conv


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "zeros"),
    [
        (224, 3, 2, (0, 1)),
        (7, 3, 2, (1, 1)),
        (28, 8, 2, (3, 3)),
        (29, 8, 2, (3, 4)),
        (5, 1, 2, (0, 0)),
        (1, 3, 2, (1, 1)),
    ],
)
def test_an_odd_zero_is_added_right_and_below(
    size: int, kernel: int, stride: int, zeros: tuple[int, int]
) -> None:
    before, after = zeros
    padded = SamePad(kernel, stride)(torch.ones(1, 1, size, size))
    for line in (padded[0, 0].amax(0), padded[0, 0].amax(1)):
        assert line.tolist() == [0.0] * before + [1.0] * size + [0.0] * after


@pytest.mark.parametrize("size", [1, 2, 7, 8, 27, 28])
@pytest.mark.parametrize("kernel", [1, 3, 8])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_the_output_has_one_pixel_per_stride(size: int, kernel: int, stride: int) -> None:
    pad, conv = same_conv(1, 1, kernel, stride)
    side = -(-size // stride)
    assert conv(pad(torch.zeros(1, 1, size, size))).shape == (1, 1, side, side)
