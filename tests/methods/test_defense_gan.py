"""Defense-GAN: its losses and its search on numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spearshield.dataset import Examples
from spearshield.method import Defended, Task
from spearshield.methods.defense_gan import DefenseGAN, noisy
from spearshield.nets.latent_projection import LatentSearchSettings, Projection, squared_error
from spearshield.nets.wgan import Critic, Generator
from spearshield.rng import Rng, ambient
from spearshield.storage import checkpoint
from spearshield.storage.weights import save_weights
from spearshield.training.loop import Training, train

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


def test_images_outside_the_range_have_larger_errors():
    made = learner()
    inside = made.G(Rng.of_batch(0, 8).normal((4,))).detach()
    outside = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    near, far = (made.projection().search(x, Rng.of_batch(0, 8))[1] for x in (inside, outside))
    assert near.max() < 0.1 * far.min()


SHORT = LatentSearchSettings(steps=3, restarts=2)
NEAR = replace(SHORT, start="encoder")


def test_one_network_after_the_other_learns():
    made = learner(
        classifier="reconstructions", gan_steps=2, encoder_steps=1, search=SHORT, critic_steps=1
    )
    for i in range(5):
        before = {name: [p.clone() for p in getattr(made, name).parameters()] for name in "GDEC"}
        losses = made.step(X, Y, rng=Rng.of_batch(i, 3))
        now = {name for name in "GDEC" if changed(getattr(made, name), before[name])}
        assert now == ({"G", "D"} if i < 2 else {"E"} if i == 2 else {"C"})
    assert list(losses) == ["cross_entropy"]
    outcome = made.outcome()
    assert outcome.classifier is made.C and made.C is not made.task.untrained
    assert isinstance(outcome.purifier, Projection) and outcome.purifier.E is made.E
    bare = learner()
    assert bare.outcome().classifier is bare.task.classifier


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
    made = learner(classifier=classifier, gan_steps=1, search=SHORT)
    made.C = Seen()
    made.taken += 1
    made.step(X, Y, rng=RNG)
    x_hat = made.projection(restarts=1).purify(X, RNG)
    shown = torch.cat([X, x_hat]) if classifier == "both" else x_hat
    torch.testing.assert_close(made.C.x, shown)


def with_an_encoder(**settings):
    """G answers 0.5 + 0.1 z in every pixel, E the sum of the pixels."""
    made = learner(encoder_steps=9, gan_steps=1, latent_weight=0.1, **settings)
    made.method = replace(made.method, latent=1)
    made.G, made.E = Scale(), Linear(torch.ones(16, 1))
    made.opt_e = torch.optim.SGD(made.E.parameters())
    return made


@pytest.mark.parametrize(("noise", "eps"), [(0.0, 0.0), (0.3, 0.0), (0.3, 0.2)])
def test_the_encoders_losses_by_hand(noise, eps):
    """Noise is to be undone, on the first image that which misleads E, on the others any."""
    made = with_an_encoder(encoder_noise=noise, encoder_eps=eps)
    misleading = made.misleading(X[:1], RNG[:1].fold(4))
    shown = torch.cat([misleading, noisy(X[1:], noise, RNG[1:])]).flatten(1)
    assert torch.equal(misleading, X[:1]) == (eps == 0)
    losses = made.step_encoder(X, 0, RNG)
    z = shown.sum(1, keepdim=True)
    off = 0.5 + 0.1 * z - X.flatten(1)
    assert losses["pixels"] == pytest.approx(float(off.square().mean()))
    assert losses["latents"] == pytest.approx(float(z.square().mean()))
    slope = (2 * off.mean(1, keepdim=True) * 0.1 * shown).mean(0)
    slope = slope + 0.1 * (2 * z * shown).mean(0)
    torch.testing.assert_close(made.E.weight.detach()[:, 0], 1 - 1e-3 * slope)
    assert made.G.value.grad is None


def test_noise_that_misleads_is_a_step_up_the_error():
    """G's answer is too bright at first, and more so where E's image is: up is where it errs."""
    made = with_an_encoder(encoder_eps=0.2)
    x = torch.full((200, *SHAPE), 0.5)
    shown = made.misleading(x, Rng.of_batch(0, 200))
    size = (shown - x).flatten(1).amax(1, keepdim=True)
    assert 0 <= size.min() < 0.01 and 0.19 < size.max() <= 0.2
    assert float(size.mean()) == pytest.approx(0.1, abs=0.02)
    # From half the size below it ends half the size above; from half above, at the bound.
    moved = (shown - x).flatten(1) / size
    low = moved < 0.75
    torch.testing.assert_close(moved[low], torch.full_like(moved[low], 0.5))
    torch.testing.assert_close(moved[~low], torch.ones_like(moved[~low]))
    assert 0.4 < float(low.float().mean()) < 0.6
    bright = made.misleading(torch.ones_like(X), RNG)
    assert bright.max() == 1


class Scale(Shift):
    """The image 0.5 + 0.1 z everywhere."""

    def forward(self, z):
        return (0.5 + 0.1 * z + 0 * self.value)[:, :, None, None].expand(len(z), *SHAPE)


def test_the_encoder_learns_to_undo_the_generator():
    made = learner(encoder_steps=150, gan_steps=1, encoder_noise=0.1, latent_weight=1e-3)
    for deconv in made.G.deconvs:
        torch.nn.init.normal_(deconv.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    x = made.G(Rng.of_batch(0, 64).normal((4,))).detach()
    before = float(squared_error(made.projection().differentiable_approximation(x), x).mean())
    for i in range(1, 151):
        made.taken.fill_(i)
        made.step(x, torch.zeros(64, dtype=torch.long), rng=Rng.of_batch(i, 64))
    assert (
        float(squared_error(made.projection().differentiable_approximation(x), x).mean())
        < 0.5 * before
    )


def test_noise_comes_in_patches_and_has_a_strength_of_its_own_for_each_image():
    x = torch.full((300, 2, 40, 32), 0.5)
    noise = noisy(x, 0.4, Rng.of_batch(0, 300)) - x
    strength = noise.abs().amax((1, 2, 3))
    torch.testing.assert_close(noise.abs(), strength[:, None, None, None].expand_as(noise))
    assert 0 <= strength.min() < 0.02 and 0.38 < strength.max() <= 0.4
    assert float(strength.mean()) == pytest.approx(0.2, abs=0.03)
    alike = (noise[..., 1:] * noise[..., :-1] > 0).float().mean((1, 2, 3))
    kinds = [alike < 0.6, (alike > 0.65) & (alike < 0.8), alike > 0.83]
    assert all(80 < int(kind.sum()) < 120 for kind in kinds), [int(kind.sum()) for kind in kinds]
    assert torch.equal(noisy(X, 0.0, RNG), X)
    far = noisy(X, 9.0, RNG)
    assert far.min() == 0 and far.max() == 1


def left_behind(folder, **settings):
    """A learner, and the files that a run leaves of it."""
    made = learner(**settings)
    checkpoint.save(folder / "checkpoint.safetensors", {"steps": 0, "state": made.state_dict()})
    save_weights(made.outcome().defended, folder / "weights.safetensors")
    save_weights(made.projection(), folder / "purifier.safetensors")
    return made


def same(a, b):
    return all(map(torch.equal, a.parameters(), b.parameters()))


@pytest.mark.parametrize("file", ["checkpoint", "weights", "purifier"])
def test_the_generator_comes_from_a_file(tmp_path, file):
    path = str(tmp_path / f"{file}.safetensors")
    old = left_behind(tmp_path, encoder_steps=1, gan_steps=1)
    with ambient(2):
        made, trained = (
            DefenseGAN(width=2, latent=4, weights=path, encoder_steps=steps).learner(task())
            for steps in (0, 1)
        )
    assert same(made.G, old.G) and same(made.E, old.E)
    assert same(trained.G, old.G) and not same(trained.E, old.E)
    torch.testing.assert_close(made.outcome().purifier(X), old.outcome().purifier(X))
    with pytest.raises(ValueError, match="steps=0"):
        made.step(X, Y, rng=RNG)


def test_with_a_given_generator_only_what_comes_after_is_trained(tmp_path):
    left_behind(tmp_path)
    weights = str(tmp_path / "weights.safetensors")
    made = learner(weights=weights, encoder_steps=2, classifier="both", search=NEAR)
    for i in range(4):
        before = {name: [p.clone() for p in getattr(made, name).parameters()] for name in "GEC"}
        made.step(X, Y, rng=Rng.of_batch(i, 3))
        now = {name for name in "GEC" if changed(getattr(made, name), before[name])}
        assert now == ({"E"} if i < 2 else {"C"})
    assert made.outcome().classifier is made.C


def test_says_what_is_wrong_with_a_file(tmp_path):
    old = left_behind(tmp_path)
    path = str(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights\.safetensors: G does not fit .*latent"):
        DefenseGAN(width=2, latent=5, weights=path).learner(task())
    with pytest.raises(ValueError, match=r"holds no E .* encoder_steps"):
        learner(weights=path, search=NEAR)
    save_weights(old.task.classifier, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors holds no G"):
        learner(weights=str(tmp_path / "other.safetensors"))
    torch.nn.init.constant_(old.G.linear.bias, torch.nan)
    save_weights(old.projection(), tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match=r"broken\.safetensors: G is not finite"):
        learner(weights=str(tmp_path / "broken.safetensors"))


@pytest.mark.parametrize("stages", [(3, 0), (2, 2)])
def test_resumes_in_any_stage(tmp_path, stages):
    pixels = torch.arange(6 * 16).reshape(6, *SHAPE).to(torch.uint8)
    examples = Examples.of(pixels, torch.arange(6) % 2, ("a", "b"))
    method = DefenseGAN(
        width=2,
        latent=3,
        classifier="both",
        gan_steps=stages[0],
        encoder_steps=stages[1],
        critic_steps=2,
        search=NEAR if stages[1] else SHORT,
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
    made = learner(search=SHORT)
    victim = made.outcome().defended
    assert isinstance(victim, Defended)
    alone = torch.cat([victim(X[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(victim(X), alone, rtol=1e-4, atol=1e-5)


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
        {"encoder_steps": 5},
        {"encoder_steps": -1},
        {"encoder_noise": -1.0},
        {"encoder_eps": -1.0},
        {"latent_weight": -1.0},
        {"weights": "G.safetensors", "gan_steps": 5, "classifier": "both"},
        {"search": NEAR},
    ],
)
def test_refuses_settings_that_cannot_be(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        DefenseGAN(**setting)
