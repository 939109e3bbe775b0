"""Defense-GAN: its losses and its search on numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spearshield.dataset import Examples
from spearshield.method import Defended, Task
from spearshield.methods.defense_gan import (
    Critic,
    DefenseGAN,
    Descent,
    Generator,
    Projection,
    squared_error,
)
from spearshield.rng import Rng, ambient
from spearshield.training import Training, train

SHAPE = (1, 4, 4)
X = torch.linspace(0, 1, 3 * 16).reshape(3, *SHAPE)
Y = torch.tensor([0, 1, 0])


class Shift(torch.nn.Module):
    """The image 0.25 + value everywhere, whatever z."""

    def __init__(self) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, z):
        return (0.25 + self.value).expand(len(z), *SHAPE)


class Linear(torch.nn.Module):
    """A linear critic of pixels, or (``latent``) a linear generator with orthonormal columns."""

    def __init__(self, weight) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight)

    def forward(self, x):
        answer = x.flatten(1) @ self.weight
        return answer if answer.shape[1] == 1 else answer.reshape(-1, *SHAPE)


def task(shape=SHAPE):
    with ambient(0):
        pixels = shape[0] * shape[1] * shape[2]
        given, untrained = (
            torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(pixels, 2)).eval()
            for _ in range(2)
        )
    return Task(given, untrained, shape, 2)


def learner(**settings):
    with ambient(1):
        return DefenseGAN(width=2, latent=4, **settings).learner(task())


def by_hand(**settings):
    """G answers 0.25, D the sum of the pixels / 8: its slope is 4 / 8."""
    made = learner(**settings)
    made.G, made.D = Shift(), Linear(torch.full((16, 1), 1 / 8))
    made.opt_g = torch.optim.SGD(made.G.parameters())
    made.opt_d = torch.optim.SGD(made.D.parameters())
    return made


def test_losses_and_updates_by_hand():
    made = by_hand(critic_steps=1, lr=0.1)
    losses = made.step(X, Y, rng=Rng.of_batch(0, 3))
    assert losses["distance"] == pytest.approx(2 * (0.5 - 0.25))
    assert losses["penalty"] == pytest.approx((1 - 0.5) ** 2)
    # d(-distance)/dw = 0.25 - mean(x) pixel by pixel;  d(penalty)/dw = 2 (0.5 - 1) w / |w|
    slope = 0.25 - X.mean(0).reshape(16, 1) + 10 * 2 * -0.5 * 0.25
    weight = torch.full((16, 1), 1 / 8) - 0.1 * slope
    torch.testing.assert_close(made.D.weight.detach(), weight)
    # then G goes up the critic as it is now
    assert losses["g"] == pytest.approx(-0.25 * float(weight.sum()))
    assert float(made.G.value.detach()) == pytest.approx(0.1 * float(weight.sum()))


def changed(network, before):
    return not all(map(torch.equal, before, network.parameters()))


def test_one_update_of_the_generator_for_five_of_the_critic():
    made, updates = learner(), []
    for i in range(10):
        before = [[p.clone() for p in network.parameters()] for network in (made.G, made.D)]
        losses = made.step(X, Y, rng=Rng.of_batch(i, 3))
        assert changed(made.D, before[1])
        assert changed(made.G, before[0]) == ("g" in losses)
        updates.append("g" in losses)
    assert updates == ([False] * 4 + [True]) * 2


def test_the_learning_rates_fall_to_zero():
    made = by_hand(critic_steps=1, lr=0.5, decay_steps=2)
    for rate in (0.5, 0.25, 0.0):
        made.step(X, Y, rng=Rng.of_batch(0, 3))
        for optimiser in (made.opt_g, made.opt_d):
            assert optimiser.param_groups[0]["lr"] == pytest.approx(rate)


def test_the_generator_learns_the_images():
    with ambient(0):
        made = DefenseGAN(width=4, latent=4, lr=5e-3, critic_steps=2).learner(task((1, 8, 8)))
    x = torch.full((16, 1, 8, 8), 0.1)
    x[:, :, 4:] = 0.8
    for i in range(100):
        made.step(x, torch.zeros(16, dtype=torch.long), rng=Rng.of_batch(i, 16))
    x_hat = made.G(Rng.of_batch(0, 16).normal((4,))).detach()
    assert float(squared_error(x_hat, x).mean()) < 0.03  # 0.12 for the even grey it starts from


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 5, 70)])
def test_networks_of_any_size(shape):
    x = Generator(shape, 2, 3)(torch.randn(2, 3))
    assert x.shape == (2, *shape) and x.min() >= 0 and x.max() <= 1
    assert Critic(shape, 2)(x).shape == (2, 1)


def test_the_networks_of_the_release():
    generator, critic = Generator((1, 28, 28), 64, 128), Critic((1, 28, 28), 64)
    sizes = [128 * 4096 + 4096, 256 * 128 * 25 + 128, 128 * 64 * 25 + 64, 64 * 25 + 1]
    assert sum(p.numel() for p in generator.parameters()) == sum(sizes)
    sizes = [64 * 25 + 64, 64 * 128 * 25 + 128, 128 * 256 * 25 + 256, 4096 + 1]
    assert sum(p.numel() for p in critic.parameters()) == sum(sizes)
    maps = []
    for layer in generator.deconvs:
        layer.register_forward_hook(lambda layer, _, answer: maps.append(answer.shape[2]))
    generator(torch.zeros(1, 128))
    assert maps == [7, 14, 28]


def test_the_initial_weights_of_the_release():
    generator, critic = Generator((1, 28, 28), 64, 128), Critic((1, 28, 28), 64)
    for weight, variance in (
        (generator.linear.weight, 2 / (128 + 4096)),
        (generator.deconvs[0].weight, 4 / (256 * 25 / 4 + 128 * 25)),
        (critic.body[4].weight, 4 / (128 * 25 + 256 * 25 / 4)),
    ):
        assert float(weight.detach().var()) == pytest.approx(variance, rel=0.02)
        assert float(weight.detach().max()) == pytest.approx((3 * variance) ** 0.5, rel=0.01)


RNG = Rng.of_batch(3, 3)
PLAIN = Descent(steps=60, restarts=2, lr=4.0, momentum=0.5, z_std=0.5)


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
    return Projection(
        generator, 5, Descent(**{"steps": 30, "restarts": 4, "z_std": 1.0, **settings})
    )


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


def test_more_restarts_keep_the_starts_and_come_nearer():
    few, many = (small(restarts=R).search(X, RNG)[1] for R in (1, 6))
    assert (many <= few + 1e-6).all() and (many < 0.99 * few).any()


def test_the_gradient_through_all_steps_is_exact():
    projection = small(steps=4, restarts=2, unroll=4, lr=1.0).double()
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


def test_images_outside_the_range_have_larger_errors():
    made = learner()
    inside = made.G(Rng.of_batch(0, 8).normal((4,))).detach()
    outside = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    near, far = (made.projection.search(x, Rng.of_batch(0, 8))[1] for x in (inside, outside))
    assert near.max() < 0.1 * far.min()


SHORT = Descent(steps=3, restarts=2)


def test_the_classifier_learns_once_the_gan_has():
    made = learner(classifier="reconstructions", gan_steps=2, descent=SHORT, critic_steps=1)
    for i in range(4):
        before = {name: [p.clone() for p in getattr(made, name).parameters()] for name in "GDC"}
        losses = made.step(X, Y, rng=Rng.of_batch(i, 3))
        now = {name for name in "GDC" if changed(getattr(made, name), before[name])}
        assert now == ({"G", "D"} if i < 2 else {"C"})
    assert list(losses) == ["cross_entropy"]
    outcome = made.outcome()
    assert outcome.classifier is made.C and made.C is not made.task.untrained
    assert isinstance(outcome.purifier, Projection)
    assert learner().outcome().classifier is not made.C


class Seen(torch.nn.Module):
    """A classifier that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x):
        self.x = x
        return self.bias.expand(len(x), 2)


@pytest.mark.parametrize("classifier", ["reconstructions", "both"])
def test_what_the_classifier_is_shown(classifier):
    made = learner(classifier=classifier, gan_steps=1, descent=SHORT)
    made.C = Seen()
    made.taken += 1
    made.step(X, Y, rng=RNG)
    x_hat = made.projection.purify(X, RNG)
    shown = torch.cat([X, x_hat]) if classifier == "both" else x_hat
    torch.testing.assert_close(made.C.x, shown)


def test_resumes_in_either_stage(tmp_path):
    pixels = torch.arange(6 * 16).reshape(6, *SHAPE).to(torch.uint8)
    examples = Examples.of(pixels, torch.arange(6) % 2, ("a", "b"))
    method = DefenseGAN(
        width=2, latent=3, classifier="both", gan_steps=3, critic_steps=2, descent=SHORT
    )

    def run(steps, folder):
        training = Training(method, steps, batch_size=3)
        return train(training, task(), lambda: examples, seed=0, folder=folder)

    straight = run(6, None)
    for steps in (2, 4, 6):
        resumed = run(steps, tmp_path)
    for name, value in straight.state_dict().items():
        if torch.is_tensor(value):
            assert torch.equal(resumed.state_dict()[name], value), name


def test_the_defended_classifier_answers_alike_in_any_batch():
    made = learner(descent=SHORT)
    victim = made.outcome().defended
    assert isinstance(victim, Defended)
    alone = torch.cat([victim(X[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(victim(X), alone, rtol=1e-4, atol=1e-5)


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
    ],
)
def test_refuses_a_search_that_cannot_be(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Descent(**setting)


@pytest.mark.parametrize(
    "setting",
    [
        {"width": 0},
        {"latent": 0},
        {"critic_steps": 0},
        {"penalty_weight": -1.0},
        {"lr": -1.0},
        {"decay_steps": -1},
        {"gan_steps": 5},
        {"gan_steps": -1, "classifier": "both"},
        {"classifier": "both"},
    ],
)
def test_refuses_settings_that_cannot_be(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        DefenseGAN(**setting)
