"""Laws of the random numbers: they pass statistical tests, and depend on the image alone."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch

from spearshield.ranges import checked_seed
from spearshield.rng import Rng, ambient, permutation, repeated

N, D = 500, 400  # images, draws of each


def unit(key: int = 0, first: int = 0) -> torch.Tensor:
    return Rng(key, torch.arange(first, first + N)).uniform((D,))


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Correlation of all pairs; independent draws have standard deviation ``1 / sqrt(pairs)``."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def chi_square(draws: torch.Tensor, bins: int) -> float:
    """Standardised chi-square statistic of draws in [0, 1): mean 0, standard deviation 1."""
    counts = torch.histc(draws.double(), bins, 0, 1)
    expected = draws.numel() / bins
    return float((counts - expected).square().sum() / expected - (bins - 1)) / (2 * bins) ** 0.5


@pytest.mark.parametrize("key", [0, 1, -7, 2**63, 2**200 + 3])
@pytest.mark.parametrize("first", [0, -(2**40), 2**62])
def test_uniform_is_uniform(key, first):
    draws = unit(key, first)
    assert draws.min() >= 0 and draws.max() < 1
    assert abs(chi_square(draws, 100)) < 5
    for axis in (0, 1):  # over the images at a position, and over the positions of an image
        lines = torch.tensor([chi_square(line, 10) for line in draws.movedim(axis, 0)])
        assert abs(float(lines.mean())) < 5 / len(lines) ** 0.5 and lines.max() < 8


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: unit().roll(1, 0), id="neighbouring images"),
        pytest.param(lambda: unit().roll(1, 1), id="neighbouring positions"),
        pytest.param(lambda: unit().roll((1, 1), (0, 1)), id="diagonal"),
        pytest.param(lambda: unit(1), id="seeds"),
        pytest.param(lambda: unit(-1), id="a negative seed"),
        pytest.param(lambda: unit(2**64 - 1), id="a huge seed"),
        pytest.param(lambda: unit(0, N), id="other images"),
        pytest.param(lambda: unit(0, -N), id="negative ids"),
        pytest.param(lambda: Rng.of_batch(0, N).fold(0).uniform((D,)), id="fold 0"),
        pytest.param(lambda: Rng.of_batch(0, N).fold(-1).uniform((D,)), id="fold -1"),
        pytest.param(lambda: Rng.of_batch(0, N).fold(0).fold(1).uniform((D,)), id="two folds"),
    ],
)
def test_streams_with_different_names_are_independent(other):
    assert abs(correlation(unit(), other())) < 5 / (N * D) ** 0.5


def test_folds_are_independent_streams():
    rng = Rng.of_batch(0, N)
    streams = [rng.fold(k).uniform((D,)) for k in range(6)] + [rng.fold(0).fold(1).uniform((D,))]
    streams += [rng.fold(1).fold(0).uniform((D,)), rng.uniform((D,))]
    flat = torch.stack([s.flatten() for s in streams])
    off = torch.corrcoef(flat) - torch.eye(len(streams))
    assert off.abs().max() < 5 / (N * D) ** 0.5


def test_a_draw_depends_on_the_image_and_not_on_the_batch():
    ids = torch.tensor([5, -3, 2**40, 17, 0])
    rng, order = Rng(1, ids), torch.tensor([4, 2, 0, 3, 1])
    for draw in (Rng.normal, Rng.uniform, lambda r, s: r.integers(s, 10)):
        together = draw(rng, (3, 2))
        assert together.shape == (5, 3, 2)
        torch.testing.assert_close(draw(rng[order], (3, 2)), together[order])
        for i in range(5):
            torch.testing.assert_close(draw(Rng(1, ids[i : i + 1]), (3, 2))[0], together[i])


def test_image_0_of_seed_0_draws_the_published_sequence():
    """SplitMix64 from state 0: e220a8397b1dcdaf, 6e789e6aa1b965f4, 06c45d188009454f."""
    draws = Rng(0, torch.tensor([0])).uniform((3,))
    assert (draws * 2**24).tolist() == [[0xE220A8, 0x6E789E, 0x06C45D]]


def test_the_numbers_are_pinned():
    """So that no release or machine draws other numbers unnoticed."""
    rng = Rng(3, torch.tensor([0, 1]))
    assert rng.integers((3,), 10**6).tolist() == [
        [203664, 356100, 961818],
        [965391, 476241, 711720],
    ]
    assert rng.fold(2).integers((2,), 10**6).tolist() == [[997314, 655956], [388380, 341989]]
    x = torch.tensor([[[[0.25, 0.5]]]])
    assert Rng.of_content(3, x).integers((2,), 10**6).tolist() == [[21644, 774820]]


def test_an_rng_is_a_value():
    rng = Rng.of_batch(0, 4)
    assert torch.equal(rng.normal((3,)), rng.normal((3,)))
    assert not torch.equal(rng.fold(1).normal((3,)), rng.fold(2).normal((3,)))


def test_seeds_give_different_draws():
    first = {float(Rng.of_batch(seed, 1).uniform((1,))) for seed in range(-500, 500)}
    assert len(first) > 995  # of 2^24 values


def test_normal_has_normal_moments_and_tails():
    draws = Rng.of_batch(3, N).normal((D,)).double()
    n = draws.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((draws**power).mean()) - moment) < 5 * (variance / n) ** 0.5
    for z in (1.0, 2.0, 3.0, 4.0):
        tail = math.erfc(z / 2**0.5) / 2
        for beyond in (draws > z, draws < -z):
            assert abs(int(beyond.sum()) - n * tail) < 5 * (n * tail) ** 0.5 + 1


@pytest.mark.parametrize("bits", [0, -1, 2**63 - 1, -(2**63)])
def test_the_rarest_bits_are_finite_draws(bits):
    rng = Rng.of_batch(0, 2)
    with mock.patch.object(Rng, "_bits", lambda self, shape: torch.full((2, *shape), bits)):
        assert rng.normal((3,)).isfinite().all()
        assert (rng.uniform((3,)) >= 0).all() and (rng.uniform((3,)) < 1).all()
        assert rng.integers((3,), 7).min() >= 0 and rng.integers((3,), 7).max() < 7


def test_uniform_stays_in_its_range():
    draws = Rng.of_batch(0, N).uniform((D,), -0.3, 0.1)
    assert -0.3 <= draws.min() < -0.299 and 0.099 < draws.max() <= 0.1
    assert abs(chi_square((draws + 0.3) / 0.4, 50)) < 5


@pytest.mark.parametrize("high", [1, 2, 7, 1000])
def test_integers_are_uniform(high):
    draws = Rng.of_batch(0, N).integers((D,), high)
    assert draws.min() == 0 and draws.max() == high - 1
    counts = torch.bincount(draws.flatten(), minlength=high)
    expected = draws.numel() / high
    assert (counts - expected).abs().max() < 5.5 * expected**0.5 + 1


def images() -> torch.Tensor:
    return Rng.of_batch(0, 4).uniform((3, 5, 6))


def test_of_content_depends_on_the_pixels_and_not_on_the_batch():
    x = images()
    together = Rng.of_content(7, x).uniform((D,))
    assert torch.equal(Rng.of_content(7, x.flip(0)).uniform((D,)), together.flip(0))
    for i in range(4):
        assert torch.equal(Rng.of_content(7, x[i : i + 1]).uniform((D,))[0], together[i])
    assert not torch.equal(Rng.of_content(8, x).uniform((D,)), together)


def test_of_content_is_independent_after_a_change_of_one_pixel():
    x = images()[:1].repeat(90, 1, 1, 1)
    x.flatten(1).diagonal().add_(2.0**-15)  # another pixel in each copy
    draws = torch.cat(
        [Rng.of_content(7, images()[:1]).uniform((D,)), *[Rng.of_content(7, x).uniform((D,))]]
    )
    off = torch.corrcoef(draws) - torch.eye(91)
    assert off.abs().max() < 6 / D**0.5


def test_of_content_depends_on_the_position_of_a_pixel():
    x = torch.zeros(2, 1, 2, 2)
    x[0, 0, 0, 0] = x[1, 0, 0, 1] = 1
    a, b = Rng.of_content(0, x).uniform((D,))
    assert not torch.equal(a, b)


def test_a_permutation_visits_every_image_once():
    for n in (0, 1, 2, 1000):
        assert permutation(n, 0, 0).sort().values.tolist() == list(range(n))


def test_a_permutation_depends_on_seed_and_epoch():
    orders = {tuple(permutation(50, s, e).tolist()) for s in range(-3, 4) for e in range(10)}
    assert len(orders) == 70
    assert torch.equal(permutation(50, 3, 4), permutation(50, 3, 4))


def test_ambient_seeds_inside_and_restores_afterwards():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with ambient(0):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with ambient(0):
        assert torch.equal(torch.rand(3), first)
    for seed, step in ((1, 0), (0, 1), (-1, 0)):
        with ambient(seed, step):
            assert not torch.equal(torch.rand(3), first)


def test_ambient_restores_after_an_error():
    before = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="on purpose"), ambient(0):
        torch.rand(3)
        raise RuntimeError("on purpose")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_repetitions_have_seeds_of_their_own():
    seeds = [0, 1, 2, 2**63 - 1]
    assert [repeated(seed, 0) for seed in seeds] == seeds
    others = [checked_seed(repeated(seed, k)) for seed in seeds for k in range(1, 200)]
    assert len({*others, *seeds}) == len(others) + len(seeds)
