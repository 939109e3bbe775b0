"""Projection by a search for latents, on generators whose nearest images are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mutations import fails_under
from spearshield.method import Defended
from spearshield.methods.defense_gan import Reconstructor
from spearshield.nets.latent_projection import (
    LatentCache,
    LatentProjection,
    LatentSearchSettings,
    squared_error,
)
from spearshield.nets.wgan import Critic, Generator
from spearshield.rng import Rng, ambient
from spearshield.views import BPDA

SHAPE = (1, 4, 4)
X = torch.linspace(0, 1, 3 * 16).reshape(3, *SHAPE)
RNG = Rng.of_batch(3, 3)
SETTINGS = LatentSearchSettings(steps=60, restarts=2, lr=4.0, momentum=0.5, z_std=0.5)


class Linear(torch.nn.Module):
    """A linear generator with orthonormal columns."""

    def __init__(self, weight) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight)

    def forward(self, z):
        return (z @ self.weight).reshape(-1, *SHAPE)


def columns():
    """Orthonormal, 4 x 16."""
    return torch.linalg.qr(torch.randn(16, 4, generator=torch.Generator().manual_seed(0)))[0].T


def linear(settings, threshold=1.0):
    return Reconstructor(Linear(columns()), 4, settings, threshold=threshold)


def curved(**settings):
    """A search in a curved range, with many local minima."""
    with ambient(4):
        generator = Generator(SHAPE, 2, 5)
        for deconv in generator.deconvs:
            torch.nn.init.normal_(deconv.weight, std=0.5)
        encoder = Critic(SHAPE, 2, 5)
        encoder.body[-1].weight.data *= 10
    search = LatentSearchSettings(**{"steps": 30, "restarts": 4, "z_std": 1.0, **settings})
    return Reconstructor(generator, 5, search, encoder)


def test_batch_and_chunk_size_do_not_change_the_result():
    x = torch.rand(9, *SHAPE, generator=torch.Generator().manual_seed(0))
    rng = Rng.of_content(0, x)
    z, errors = curved().search(x, rng)
    assert (z[:, None] - z[None]).norm(dim=2).fill_diagonal_(1).min() > 0.01
    for chunk in (1, 5, 8, 20):
        found = curved(chunk=chunk).search(x, rng)
        torch.testing.assert_close(found, (z, errors), rtol=1e-3, atol=1e-4)
    some = torch.tensor([7, 2, 4])
    found = curved().search(x[some], rng[some])
    torch.testing.assert_close(found, (z[some], errors[some]), rtol=1e-3, atol=1e-4)


def test_each_restart_is_the_search_from_one_start():
    """Against a search that treats one image and one start at a time."""
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    projection, rng = curved(steps=12).double(), Rng.of_batch(0, 5)
    found, _ = projection.search(x, rng)
    for i, image in enumerate(x):
        ends = []
        for start in rng.normal((4, 5))[i].double():
            z, v = start, torch.zeros_like(start)
            for _ in range(12):
                z = z.detach().requires_grad_()
                error = (projection.G(z[None]) - image).square().mean()
                v = 0.7 * v + torch.autograd.grad(error, z)[0]
                z = z.detach() - 10.0 * v
            ends.append(z)
        errors = [(projection.G(z[None]) - image).square().mean().item() for z in ends]
        torch.testing.assert_close(found[i], ends[errors.index(min(errors))])


def test_more_restarts_keep_the_starts_and_reduce_the_error():
    few, many = (curved(restarts=R).search(X, RNG)[1] for R in (1, 6))
    assert (many <= few + 1e-6).all() and (many < 0.99 * few).any()


def test_an_empty_batch_is_searched_without_error():
    assert curved().purify(X[:0], RNG[:0]).shape == (0, *SHAPE)


def test_an_encoder_does_not_change_the_output():
    without = curved()
    without.E = None
    torch.testing.assert_close(curved()(X), without(X))


def test_an_encoder_offers_a_differentiable_approximation():
    projection = curved(steps=2)
    x = X.clone().requires_grad_()
    torch.testing.assert_close(
        projection.differentiable_approximation(x), projection.G(projection.E(x))
    )
    victim = Defended(projection, torch.nn.Flatten()).eval()
    view = BPDA("approximation")
    assert view.applies_to(victim)
    torch.testing.assert_close(view(victim)(x), victim(X))
    view(victim)(x).sum().backward()
    expected = torch.autograd.grad(projection.G(projection.E(x)).sum(), x)[0]
    torch.testing.assert_close(x.grad, expected)
    assert all(p.grad is None for p in projection.parameters())
    assert not view.applies_to(Defended(linear(SETTINGS), torch.nn.Flatten()))


@pytest.mark.parametrize("settings", [{}, {"steps": 2}, {"restarts": 1}], ids=str)
def test_the_gradient_through_all_steps_is_exact(settings):
    projection = curved(**{"steps": 4, "restarts": 2, "unroll": 4, "lr": 1.0, **settings}).double()
    x = X[1:2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: projection.purify(x, RNG[1:2]), x)
    assert torch.autograd.gradcheck(lambda x: projection.search(x, RNG[1:2]), x)


def detached_descent(self, x, z, velocity, steps, graph=False, descend=Reconstructor.descend):
    z, velocity = descend(self, x, z, velocity, steps)
    return z + 0 * x.sum() if graph else z, velocity


@fails_under(
    "gradient that is zero, as in the release", (Reconstructor, "descend", detached_descent)
)
def test_the_gradient_through_the_last_steps_excludes_earlier_steps():
    x = X.clone().requires_grad_()
    for unroll, factor in ((1, 4.0), (2, 4.0 * (1 + 0.5 + 1 - 4.0 * 2 / 16))):
        z, _ = linear(replace(SETTINGS, unroll=unroll)).search(x, RNG)
        (gradient,) = torch.autograd.grad(z[:, 0].sum(), x)
        # v = ... + 2/16 (z - A x), z' = z - 4 v; momentum adds the earlier step once more.
        expected = factor * 2 / 16 * columns()[0]
        torch.testing.assert_close(gradient.flatten(1), expected.expand(3, 16))


def test_the_gradient_through_some_steps_of_a_curved_range():
    """One start and six steps of plain gradient descent; the first four are detached."""
    projection = curved(steps=6, restarts=1, unroll=2).double()
    x = X.double().requires_grad_()
    z = RNG.normal((1, 5))[:, 0].double().requires_grad_()
    v = torch.zeros_like(z)
    for step in range(6):
        error = squared_error(projection.G(z), x).sum()
        v = 0.7 * v + torch.autograd.grad(error, z, create_graph=True)[0]
        z = z - 10 * v
        if step == 3:
            z, v = z.detach().requires_grad_(), v.detach()
    found, errors = projection.search(x, RNG)
    torch.testing.assert_close(found, z)
    for ours, theirs in ((found, z), (errors, squared_error(projection.G(z), x))):
        gradients = [
            torch.autograd.grad(value.sum(), x, retain_graph=True)[0] for value in (ours, theirs)
        ]
        torch.testing.assert_close(*gradients)


def test_the_result_is_the_same_with_and_without_gradients():
    projection, x = curved(), X.clone().requires_grad_()
    tracked = projection.search(x, RNG)
    torch.testing.assert_close(tracked[1].detach(), squared_error(projection.purify(X, RNG), X))
    with torch.no_grad():
        plain = projection.search(x, RNG)
    with torch.inference_mode():
        inferred = projection.search(X.clone(), RNG)
    assert tracked[0].requires_grad and tracked[1].requires_grad
    for z, _ in (plain, inferred):
        torch.testing.assert_close(z, tracked[0].detach())
        assert not z.requires_grad


def test_only_the_images_get_a_gradient():
    projection, x = curved(), X.clone().requires_grad_()
    projection(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in projection.parameters())
    assert not curved()(X).requires_grad
    assert not curved(unroll=0)(x).requires_grad


@pytest.mark.parametrize(
    "setting",
    [
        {"steps": -1},
        {"restarts": 0},
        {"lr": 0.0},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"momentum": float("nan")},
        {"z_std": -1.0},
        {"unroll": -1},
        {"chunk": 0},
    ],
)
def test_settings_out_of_range_raise(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        LatentSearchSettings(**setting)


def latents_by_position(self, x, rng, weights, search):
    if len(self.latents) < len(x):
        self.latents = dict(enumerate(search(torch.arange(len(x)))))
    return torch.stack([self.latents[place] for place in range(len(x))])


@fails_under(
    "latents cached by position in the batch",
    (LatentCache, "__call__", latents_by_position),
)
def test_a_cached_image_is_not_searched_again(monkeypatch):
    searched = []
    search = LatentProjection._in_chunks

    def counting(self, x, rng, differentiable):
        searched.append(len(x))
        return search(self, x, rng, differentiable)

    monkeypatch.setattr(LatentProjection, "_in_chunks", counting)
    projection = linear(SETTINGS)
    first = projection.purify(X[:2], RNG[:2])
    torch.testing.assert_close(projection.purify(X, RNG)[:2], first)
    torch.testing.assert_close(
        projection.purify(X.flip(0), RNG[torch.tensor([2, 1, 0])])[1:], first.flip(0)
    )
    assert searched == [2, 1, 0]
    # Another draw, a pixel that differs in its last bit, and other weights each need a new search.
    projection.purify(X, RNG.fold(0))
    projection.purify(X.nextafter(torch.tensor(2.0)), RNG)
    with torch.no_grad():
        projection.G.weight.mul_(-1)
    turned = projection.purify(X, RNG)
    assert searched == [2, 1, 0, 3, 3, 3]
    torch.testing.assert_close(turned[:2], first)
    projection.G.load_state_dict({"weight": columns().roll(1, 1)})
    assert (projection.purify(X, RNG)[:2] - first).abs().max() > 0.1
    # A gradient always needs a search.
    x = X.clone().requires_grad_()
    projection.purify(x, RNG).sum().backward()
    assert searched == [2, 1, 0, 3, 3, 3, 3, 3] and x.grad.abs().max() > 0


def test_the_cache_is_bounded():
    projection = linear(replace(SETTINGS, steps=1))
    projection._cache.capacity = 5
    for draw in range(9):
        projection.purify(X, RNG.fold(draw))
        assert len(projection._cache.latents) <= 8


@fails_under(
    "detection score of zero",
    (LatentProjection, "detection_score", lambda self, x: torch.zeros(len(x))),
)
def test_the_detection_score_is_the_relative_excess_of_the_error():
    projection = linear(SETTINGS, threshold=0.01)
    x = torch.stack([X[0], (columns()[0] * 2).reshape(SHAPE), X[2]])
    error = squared_error(projection(x), x)
    torch.testing.assert_close(projection.detection_score(x), error / 0.01 - 1)
    assert (projection.detection_score(x) > 0).tolist() == [True, False, True]
    assert (linear(SETTINGS).detection_score(torch.ones(2, *SHAPE)) <= 0).all()
    x = X.clone().requires_grad_()
    projection.detection_score(x).sum().backward()
    assert x.grad.abs().max() > 0
