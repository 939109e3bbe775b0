"""Statistics of gradients: extremes by hand, and classifiers whose gradients tell the class."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.dataset import Examples
from spearshield.judging import gradient_statistics
from spearshield.judging.gradient_statistics import InputGradients
from spearshield.rng import ambient


def gradients(g, x=None, y=None):
    with ambient(0):
        x = torch.rand(g.shape) if x is None else x
    return InputGradients(x, torch.arange(len(g)) % 2 if y is None else y, g)


def test_the_entropy_of_extremes():
    one_pixel = torch.zeros(3, 1, 8, 8)
    one_pixel[:, :, 2, 3] = -2.0
    assert gradients(one_pixel).entropy == pytest.approx(0, abs=1e-9)
    assert gradients(torch.full((3, 1, 8, 8), -0.5)).entropy == pytest.approx(1)
    half = torch.zeros(2, 1, 8, 8)
    half[:, :, :4] = 1.0
    assert gradients(half).entropy == pytest.approx(math.log(32) / math.log(64))
    assert math.isnan(gradients(torch.zeros(2, 1, 8, 8)).entropy)


@fails_under(
    "one level for all values",
    (gradient_statistics, "_levels", lambda values: (values * 0).astype(int)),
)
def test_the_information_of_gradients_that_follow_the_image_or_ignore_it():
    with ambient(1):
        x, noise = torch.rand(4, 1, 40, 40), torch.randn(4, 1, 40, 40)
    assert gradients(x.clone(), x).mutual_information == pytest.approx(1, abs=1e-6)
    assert gradients(noise, x).mutual_information < 0.1
    flat = torch.ones_like(x)
    for g, image in ((flat, x), (x, flat), (flat, flat)):
        assert gradients(g, image).mutual_information == 0


def test_a_probe_tells_the_class_where_the_gradient_shows_it():
    with ambient(2):
        patterns, noise = torch.randn(2, 1, 6, 6), torch.randn(60, 1, 6, 6)
    y = torch.arange(60) % 2
    shown = gradients(patterns[y] + 0.3 * noise, y=y)
    hidden = gradients(noise, y=y)
    assert shown.class_accuracy > 0.95 and 0.3 < hidden.class_accuracy < 0.7
    assert shown.most_frequent == 0.5
    assert gradients(noise, y=torch.arange(60) % 20).class_accuracy is None


def test_high_frequencies_of_stripes():
    columns = torch.arange(16)
    fine = ((columns % 2) * 2.0 - 1).expand(2, 1, 16, 16).contiguous()
    coarse = torch.sin(2 * math.pi * columns / 16).expand(2, 1, 16, 16).contiguous()
    assert gradients(fine).high_frequencies == pytest.approx(1)
    assert gradients(coarse).high_frequencies == pytest.approx(0, abs=1e-9)
    assert gradients(fine + coarse * math.sqrt(2)).high_frequencies == pytest.approx(0.5, abs=1e-6)
    upright = fine.transpose(2, 3).contiguous()
    assert gradients(upright).high_frequencies == pytest.approx(1)


def test_similarity_and_shift():
    with ambient(3):
        g, flat = torch.randn(5, 1, 20, 20), torch.ones(5, 1, 20, 20)
    one, same, opposite, even = (gradients(each) for each in (g, 3 * g, -g, flat))
    assert one.similarity(same) == pytest.approx(1, abs=1e-6)
    assert one.similarity(opposite) == pytest.approx(-1, abs=1e-6)
    assert one.shift(same) == pytest.approx(0, abs=1e-6)
    assert one.shift(opposite) == pytest.approx(0, abs=1e-6)
    # The mean of ||z| - 1| for a standard normal z.
    assert one.shift(even) == pytest.approx(0.5354, abs=0.02)


def test_tiny_gradients_count_as_large_ones():
    """The gradients of a confident classifier, whose squares underflow."""
    with ambient(4):
        patterns, noise = torch.randn(2, 1, 6, 6), torch.randn(60, 1, 6, 6)
    y = torch.arange(60) % 2
    g = patterns[y] + 0.1 * noise
    large, tiny = gradients(g, y=y), gradients(1e-30 * g, y=y)
    assert tiny.similarity(large) == pytest.approx(1, abs=1e-6)
    assert tiny.shift(large) == pytest.approx(0, abs=1e-5)
    assert tiny.class_accuracy == large.class_accuracy == 1
    assert gradients(0 * g, y=y).similarity(large) == 0


@fails_under(
    "the gradient of the margin, which has another length",
    (gradient_statistics.margin, "cross_entropy", gradient_statistics.margin.margin_loss),
)
def test_gradients_of_a_classifier_by_hand():
    """For two classes the gradient is the difference of the weights times 1 - p(y)."""
    pixels = torch.randint(0, 256, (7, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    images = Examples.of(pixels.to(torch.uint8), torch.arange(7) % 2, ("below", "above"))
    model = HalfSpace().eval()
    found = InputGradients.of(model, images, batch_size=3)
    x, y = images.images(), images.y
    wrong = model(x).softmax(1).gather(1, (1 - y)[:, None])[:, 0]
    expected = (2 * wrong * (1 - 2 * y))[:, None, None, None] * model.w
    torch.testing.assert_close(found.g, expected.detach(), rtol=1e-4, atol=1e-6)
    assert torch.equal(found.x, x)


def test_unusable_input_raises():
    pixels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    images = Examples(pixels, torch.tensor([0, 1]), torch.arange(2), ("a", "b"))
    with pytest.raises(ValueError, match="there are no images"):
        InputGradients.of(nn.Identity(), images[:0])
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        InputGradients.of(nn.Identity(), images, batch_size=0)
