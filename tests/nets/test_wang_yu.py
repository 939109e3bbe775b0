"""Generators of Wang and Yu: their sizes and their output."""

from __future__ import annotations

import pytest
import torch

from spearshield.nets.wang_yu import WangYuGenerator
from spearshield.rng import ambient
from spearshield.threat import Linf


@pytest.mark.parametrize(
    ("kind", "channels", "weights"), [("convolutional", 1, 413_504), ("residual", 3, 7_892_099)]
)
def test_a_generator_has_as_many_weights_as_in_the_authors_code(kind, channels, weights):
    generator = WangYuGenerator(kind, channels, 64, Linf(0.3))
    assert sum(weight.numel() for weight in generator.parameters()) == weights


@pytest.mark.parametrize("kind", ["convolutional", "residual"])
@pytest.mark.parametrize("size", [(28, 28), (30, 31)])
def test_the_output_is_an_image_in_the_threat_model(kind, size):
    with ambient(0):
        generator, x = WangYuGenerator(kind, 1, 4, Linf(0.3)), torch.rand(2, 1, *size)
    images = generator(x)
    assert images.shape == x.shape and Linf(0.3).contains(images, x).all()
    assert (images - x).abs().amax() > 0.1
