"""The search for a latent, on generators where its answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spearshield.method import Defended
from spearshield.nets.latent_projection import LatentSearchSettings, Projection, squared_error
from spearshield.nets.wgan import Critic, Generator
from spearshield.rng import Rng, ambient
from spearshield.views import BPDA

SHAPE = (1, 4, 4)
X = torch.linspace(0, 1, 3 * 16).reshape(3, *SHAPE)


class Linear(torch.nn.Module):
    """A linear generator with orthonormal columns, and the encoder that undoes it."""

    def __init__(self, weight) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight)

    def forward(self, x):
        if x.dim() == 4:
            return x.flatten(1) @ self.weight.T
        return (x @ self.weight).reshape(-1, *SHAPE)


RNG = Rng.of_batch(3, 3)
PLAIN = LatentSearchSettings(steps=60, restarts=2, lr=4.0, momentum=0.5, z_std=0.5)


def columns():
    """Orthonormal, 4 x 16."""
    return torch.linalg.qr(torch.randn(16, 4, generator=torch.Generator().manual_seed(0)))[0].T


def linear(descent, dtype=torch.float32):
    return Projection(Linear(columns().to(dtype)), 4, descent)


def test_finds_the_latent_of_a_linear_generator_and_the_distance_from_its_range():
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    z, errors = linear(PLAIN).search(x, RNG)
    nearest = x.flatten(1) @ columns().T
    x_hat = nearest @ columns()
    torch.testing.assert_close(z, nearest)
    torch.testing.assert_close(errors, (x.flatten(1) - x_hat).square().mean(1))
    torch.testing.assert_close(linear(PLAIN).purify(x, RNG).flatten(1), x_hat)


def test_two_steps_with_momentum_by_hand():
    """The loss is the mean over 16 pixels, and neither batch nor restarts shrink the step."""
    z, v = 0.5 * RNG.normal((1, 4))[:, 0], torch.zeros(3, 4)
    for _ in range(2):
        v = 0.5 * v + 2 / 16 * (z - X.flatten(1) @ columns().T)
        z = z - 4.0 * v
    found, _ = linear(replace(PLAIN, steps=2, restarts=1)).search(X, RNG)
    torch.testing.assert_close(found, z)


def test_the_restart_that_ends_nearest_counts():
    starts = 0.5 * RNG.normal((7, 4))
    errors = squared_error((starts @ columns()).reshape(21, *SHAPE), X.repeat_interleave(7, 0))
    lowest, best = errors.reshape(3, 7).min(1)
    z, found = linear(replace(PLAIN, steps=0, restarts=7)).search(X, RNG)
    torch.testing.assert_close(z, starts[torch.arange(3), best])
    torch.testing.assert_close(found, lowest)
    assert len(best.unique()) > 1


def small(**settings):
    """A search in a curved range, with many local minima."""
    with ambient(4):
        generator = Generator(SHAPE, 2, 5)
        for deconv in generator.deconvs:
            torch.nn.init.normal_(deconv.weight, std=0.5)
        encoder = Critic(SHAPE, 2, 5)
        encoder.body[-1].weight.data *= 10
    descent = LatentSearchSettings(**{"steps": 30, "restarts": 4, "z_std": 1.0, **settings})
    return Projection(generator, 5, descent, encoder)


def test_the_batch_and_the_chunk_do_not_matter():
    x = torch.rand(9, *SHAPE, generator=torch.Generator().manual_seed(0))
    rng = Rng.of_content(0, x)
    z, errors = small().search(x, rng)
    assert (z[:, None] - z[None]).norm(dim=2).fill_diagonal_(1).min() > 0.01
    for chunk in (1, 5, 8, 20):
        found = small(chunk=chunk).search(x, rng)
        torch.testing.assert_close(found, (z, errors), rtol=1e-3, atol=1e-4)
    some = torch.tensor([7, 2, 4])
    found = small().search(x[some], rng[some])
    torch.testing.assert_close(found, (z[some], errors[some]), rtol=1e-3, atol=1e-4)


def by_hand(projection, x, rng):
    """One image's search, one restart at a time: the latent and how many steps were taken."""
    descent, generator = projection.settings, projection.G
    z = descent.z_std * rng.normal((descent.restarts, projection.latent))[0].to(x)
    if descent.start == "encoder":
        z = projection.E(x).detach() + torch.cat([torch.zeros_like(z[:1]), z[1:]])
    alive = [(start, torch.zeros_like(start)) for start in z]
    before = torch.inf
    for step in range(1, descent.steps + 1):
        moved = []
        for z, v in alive:
            z.requires_grad_()
            error = (generator(z[None]) - x).square().mean()
            velocity = descent.momentum * v + torch.autograd.grad(error, z)[0]
            moved.append((error.item(), z.detach() - descent.lr * velocity, velocity))
        if descent.drop and step % descent.drop == 0:
            moved = sorted(moved, key=lambda row: row[0])[: (len(moved) + 1) // 2]
        alive = [(z, v) for _, z, v in moved]
        if descent.patience and step % descent.patience == 0:
            nearest = min(error for error, _, _ in moved)
            if nearest > (1 - descent.tolerance) * before:
                break
            before = nearest
    return min((z for z, _ in alive), key=lambda z: (generator(z[None]) - x).square().mean()), step


FASTER = [
    {"drop": 3},
    {"drop": 1, "restarts": 5},
    {"patience": 2, "tolerance": 0.03},
    {"start": "encoder"},
    {"start": "encoder", "drop": 2, "patience": 3, "tolerance": 0.001},
]


@pytest.mark.parametrize("settings", FASTER, ids=str)
def test_faster_searches_by_hand(settings):
    """Each image's answer is the one that it gets alone, whoever leaves."""
    projection = small(**settings).double()
    x = torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    rng = Rng.of_batch(0, 7)
    z, _ = projection.search(x, rng)
    alone = [by_hand(projection, x[i : i + 1], rng[i : i + 1]) for i in range(7)]
    torch.testing.assert_close(z, torch.stack([z for z, _ in alone]))
    taken = {steps for _, steps in alone}
    assert (len(taken) > 1) == ("patience" in settings)


def asked(projection):
    """How many images the generator makes each time that it is asked for the three of X."""
    counts = []
    with torch.no_grad():
        hook = projection.G.register_forward_hook(lambda _, z, x: counts.append(len(x)))
        projection.purify(X, RNG)
        hook.remove()
    return counts


def test_who_leaves_costs_nothing_any_more():
    assert asked(small(steps=7, drop=2)) == [12, 12, 6, 6, 3, 3, 3, 3]
    assert asked(small(steps=2, restarts=2)) == [6, 6, 6, 3]
    assert asked(small(steps=4, restarts=5, drop=1)) == [15, 9, 6, 3, 3]
    assert asked(small(restarts=1, patience=3, tolerance=0.99)) == [3] * 6 + [3]


def test_the_search_starts_at_the_encoders_latent():
    encoded = small().E(X).detach()
    z, _ = small(start="encoder", steps=0, restarts=1).search(X, RNG)
    torch.testing.assert_close(z, encoded)
    starts = small(start="encoder", z_std=0.3)._starts(X, RNG)
    around = 0.3 * RNG.normal((4, 5))
    around[:, 0] = 0
    torch.testing.assert_close(starts, encoded[:, None] + around)


def test_an_encoder_alone_changes_no_answer():
    without = small()
    without.E = None
    torch.testing.assert_close(small()(X), without(X))


def test_offers_a_stand_in_where_there_is_an_encoder():
    projection = small(steps=2)
    x = X.clone().requires_grad_()
    torch.testing.assert_close(
        projection.differentiable_approximation(x), projection.G(projection.E(x))
    )
    victim = Defended(projection, torch.nn.Flatten()).eval()
    view = BPDA("approximation")
    assert view.applies_to(projection)
    torch.testing.assert_close(view(victim)(x), victim(X))
    view(victim)(x).sum().backward()
    wanted = torch.autograd.grad(projection.G(projection.E(x)).sum(), x)[0]
    torch.testing.assert_close(x.grad, wanted)
    assert all(p.grad is None for p in projection.parameters())
    assert not view.applies_to(linear(PLAIN))
    with pytest.raises(ValueError, match="encoder"):
        linear(replace(PLAIN, start="encoder"))


def test_more_restarts_keep_the_starts_and_come_nearer():
    few, many = (small(restarts=R).search(X, RNG)[1] for R in (1, 6))
    assert (many <= few + 1e-6).all() and (many < 0.99 * few).any()


@pytest.mark.parametrize(
    "faster",
    [
        {},
        {"start": "encoder"},
        {"start": "encoder", "drop": 1, "restarts": 4, "patience": 2, "tolerance": 0.01},
        {"start": "encoder", "steps": 0},
    ],
    ids=str,
)
def test_the_gradient_through_all_steps_is_exact(faster):
    settings = {"steps": 4, "restarts": 2, "unroll": 4, "lr": 1.0, **faster}
    projection = small(**settings).double()
    x = X[1:2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: projection.purify(x, RNG[1:2]), x)
    assert torch.autograd.gradcheck(lambda x: projection.search(x, RNG[1:2]), x)


def test_the_gradient_through_the_last_steps_is_theirs_alone():
    x = X.clone().requires_grad_()
    for unroll, share in ((1, 4.0), (2, 4.0 * (1 + 0.5 + 1 - 4.0 * 2 / 16))):
        z, _ = linear(replace(PLAIN, unroll=unroll)).search(x, RNG)
        (slope,) = torch.autograd.grad(z[:, 0].sum(), x)
        # v = ... + 2/16 (z - A x), z' = z - 4 v, where an earlier move counts again, by momentum.
        wanted = share * 2 / 16 * columns()[0]
        torch.testing.assert_close(slope.flatten(1), wanted.expand(3, 16))


def test_the_gradient_through_some_steps_of_a_curved_range():
    """Plain descent of one start, of which the first four of six steps are cut off."""
    projection = small(steps=6, restarts=1, unroll=2).double()
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
        grads = [
            torch.autograd.grad(value.sum(), x, retain_graph=True)[0] for value in (ours, theirs)
        ]
        torch.testing.assert_close(*grads)


def test_the_answer_is_the_same_with_and_without_gradients():
    projection, x = small(), X.clone().requires_grad_()
    tracked = projection.search(x, RNG)
    torch.testing.assert_close(tracked[1].detach(), squared_error(projection.purify(X, RNG), X))
    with torch.no_grad():
        plain = projection.search(x, RNG)
    with torch.inference_mode():
        inferred = projection.search(X.clone(), RNG)
    assert tracked[0].requires_grad and tracked[1].requires_grad
    for z, _ in (plain, inferred):
        assert torch.equal(z, tracked[0]) and not z.requires_grad


def test_nothing_but_the_image_gets_a_gradient():
    projection, x = small(), X.clone().requires_grad_()
    projection(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in projection.parameters())
    assert not small()(X).requires_grad
    assert not small(unroll=0)(x).requires_grad


@pytest.mark.parametrize(
    "setting",
    [
        {"steps": -1},
        {"restarts": 0},
        {"lr": 0.0},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"z_std": -1.0},
        {"unroll": -1},
        {"chunk": 0},
        {"momentum": float("nan")},
        {"drop": -1},
        {"patience": -1},
        {"tolerance": -0.1},
        {"tolerance": 1.0},
    ],
)
def test_refuses_a_search_that_cannot_be(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        LatentSearchSettings(**setting)


def test_an_image_that_is_known_is_not_searched_for_again(monkeypatch):
    searched = []
    find = Projection._latents

    def counting(self, x, rng, unroll):
        searched.append(len(x))
        return find(self, x, rng, unroll)

    monkeypatch.setattr(Projection, "_latents", counting)
    projection = linear(PLAIN)
    first = projection.purify(X[:2], RNG[:2])
    assert torch.equal(projection.purify(X, RNG)[:2], first)
    assert torch.equal(
        projection.purify(X.flip(0), RNG[torch.tensor([2, 1, 0])])[1:], first.flip(0)
    )
    assert searched == [2, 1, 0]
    # Another draw, a pixel that differs in its last bit, other weights: each is a new question.
    projection.purify(X, RNG.fold(0))
    projection.purify(X.nextafter(torch.tensor(2.0)), RNG)
    with torch.no_grad():
        projection.G.weight.mul_(-1)
    turned = projection.purify(X, RNG)
    assert searched == [2, 1, 0, 3, 3, 3]
    torch.testing.assert_close(turned[:2], first)
    projection.G.load_state_dict({"weight": columns().roll(1, 1)})
    assert (projection.purify(X, RNG)[:2] - first).abs().max() > 0.1
    # Whoever follows the gradient searches, always.
    x = X.clone().requires_grad_()
    projection.purify(x, RNG).sum().backward()
    assert searched == [2, 1, 0, 3, 3, 3, 3, 3] and x.grad.abs().max() > 0


def test_what_is_known_is_bounded():
    projection = linear(replace(PLAIN, steps=1))
    projection._cache.most = 5
    for draw in range(9):
        projection.purify(X, RNG.fold(draw))
        assert len(projection._cache.latents) <= 8


def test_suspicion_is_the_error_of_the_answer_beside_the_threshold():
    projection = Projection(Linear(columns()), 4, PLAIN, threshold=0.01)
    x = torch.stack([X[0], (columns()[0] * 2).reshape(SHAPE), X[2]])
    error = squared_error(projection(x), x)
    torch.testing.assert_close(projection.detection_score(x), error / 0.01 - 1)
    assert (projection.detection_score(x) > 0).tolist() == [True, False, True]
    never = Projection(Linear(columns()), 4, PLAIN)
    assert (never.detection_score(torch.ones(2, *SHAPE)) <= 0).all()
    x = X.clone().requires_grad_()
    projection.detection_score(x).sum().backward()
    assert x.grad.abs().max() > 0
