"""The thresholds of pixels: values by hand, and the order of the channels."""

from __future__ import annotations

import pytest
import torch

from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.classifiers.strided_cnn import StridedCNN
from spearshield.classifiers.thresholded import Thresholded
from spearshield.nets.threshold import Threshold


def test_values_by_hand():
    x = torch.tensor([0.0, 0.3, 0.45, 0.5, 0.525, 0.55, 0.9]).view(1, 1, 1, -1)
    r = Threshold((0.5,), 0.1, 0.01)(x)
    expected = torch.tensor([-1.0, -1, -1, 0, 0.5, 1, 1]) + 0.01 * x[0, 0, 0]
    torch.testing.assert_close(r[0, 0, 0], expected)


def test_each_channel_has_all_thresholds_in_order():
    x = torch.tensor([0.2, 0.6]).view(1, 2, 1, 1)
    r = Threshold((0.1, 0.5, 0.7), 0.1, 0.0)(x)
    torch.testing.assert_close(r[0, :, 0, 0], torch.tensor([1.0, -1, -1, 1, 1, -1]))


@pytest.mark.parametrize("inner", [SmallCNN(), StridedCNN(4)])
def test_a_network_with_thresholds_sees_them_alone(inner):
    network = Thresholded(inner, (0.3, 0.7), leak=0.0).build((3, 16, 17), 5)
    x = torch.rand(2, 3, 16, 17, generator=torch.Generator().manual_seed(0))
    binary = torch.where(x > 0.7, 0.9, torch.where(x > 0.3, 0.5, 0.0))
    moved = torch.where((x - 0.3).abs().minimum((x - 0.7).abs()) > 0.05, binary, x)
    torch.testing.assert_close(network(x), network(moved))
    assert network.threshold.thresholds.shape == (2, 1, 1)


def test_thresholds_out_of_range_raise():
    with pytest.raises(ValueError, match=r"thresholds must be below 1, got 1\.5"):
        Thresholded(thresholds=(0.5, 1.5))
    with pytest.raises(ValueError, match=r"ramp must be above 0, got 0\.0"):
        Thresholded(ramp=0.0)
    with pytest.raises(ValueError, match="at least one number, got none"):
        Thresholded(thresholds=())
