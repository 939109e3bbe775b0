"""Defense-GAN: its losses and its search on numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from contracts.test_methods import assert_same_tree
from mutations import fails_under
from nets.test_latent_projection import SETTINGS, columns, linear
from spearshield.dataset import Examples
from spearshield.method import Defended, Task
from spearshield.methods import defense_gan
from spearshield.methods.defense_gan import DefenseGAN, DefenseGANLearner, Reconstructor
from spearshield.nets.latent_projection import LatentSearchSettings, squared_error
from spearshield.nets.wgan import Critic
from spearshield.rng import Rng, ambient
from spearshield.storage import checkpoint
from spearshield.storage.weights import save_weights
from spearshield.training.loop import Training, train

SHAPE = (1, 4, 4)
X = torch.linspace(0, 1, 3 * 16).reshape(3, *SHAPE)
Y = torch.tensor([0, 1, 0])


class Shift(torch.nn.Module):
    """A generator of constant images with the value 0.25 + ``value``, for every z."""

    def __init__(self) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, z):
        return (0.25 + self.value).expand(len(z), *SHAPE)


class Linear(torch.nn.Module):
    """A linear function of the pixels: a critic or an encoder."""

    def __init__(self, weight) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight)

    def forward(self, x):
        return x.flatten(1) @ self.weight


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
    """G returns 0.25, D the sum of the pixels / 8: the norm of its gradient is 4 / 8."""
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
    gradient = 0.25 - X.mean(0).reshape(16, 1) + 10 * 2 * -0.5 * 0.25
    weight = torch.full((16, 1), 1 / 8) - 0.1 * gradient
    torch.testing.assert_close(made.D.weight.detach(), weight)
    # then G increases the score of the updated critic
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


def test_the_learning_rates_decay_to_zero():
    made = by_hand(critic_steps=1, lr=0.5, decay_steps=2)
    for rate in (0.5, 0.25, 0.0):
        made.step(X, Y, rng=Rng.of_batch(0, 3))
        for optimiser in (made.opt_g, made.opt_d):
            assert optimiser.param_groups[0]["lr"] == pytest.approx(rate)


def test_the_generator_is_trained_to_make_the_images():
    with ambient(0):
        made = DefenseGAN(width=4, latent=4, lr=5e-3, critic_steps=2).learner(task((1, 8, 8)))
    x = torch.full((16, 1, 8, 8), 0.1)
    x[:, :, 4:] = 0.8
    for i in range(100):
        made.step(x, torch.zeros(16, dtype=torch.long), rng=Rng.of_batch(i, 16))
    x_hat = made.G(Rng.of_batch(0, 16).normal((4,))).detach()
    assert (
        float(squared_error(x_hat, x).mean()) < 0.03
    )  # 0.12 for the uniform grey of the initial weights


RNG = Rng.of_batch(3, 3)


def test_images_outside_the_range_have_larger_errors():
    made = learner()
    inside = made.G(Rng.of_batch(0, 8).normal((4,))).detach()
    outside = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    near, far = (made.projection().search(x, Rng.of_batch(0, 8))[1] for x in (inside, outside))
    assert near.max() < 0.1 * far.min()


def test_the_search_finds_the_nearest_image_of_a_linear_generator():
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    z, errors = linear(SETTINGS).search(x, RNG)
    nearest = x.flatten(1) @ columns().T
    x_hat = nearest @ columns()
    torch.testing.assert_close(z, nearest)
    torch.testing.assert_close(errors, (x.flatten(1) - x_hat).square().mean(1))
    torch.testing.assert_close(linear(SETTINGS).purify(x, RNG).flatten(1), x_hat)


def gradient_of_the_batch_mean(generate, x, z, graph=False, total=defense_gan.error_gradient):
    return total(generate, x, z, graph) / len(x)


@fails_under(
    "loss of the search averaged over the batch",
    (defense_gan, "error_gradient", gradient_of_the_batch_mean),
)
def test_two_steps_with_momentum_by_hand():
    """The loss is a mean over 16 pixels, and a sum over images and restarts."""
    z, v = 0.5 * RNG.normal((1, 4))[:, 0], torch.zeros(3, 4)
    for _ in range(2):
        v = 0.5 * v + 2 / 16 * (z - X.flatten(1) @ columns().T)
        z = z - 4.0 * v
    found, _ = linear(replace(SETTINGS, steps=2, restarts=1)).search(X, RNG)
    torch.testing.assert_close(found, z)


@fails_under(
    "first restart, whatever its error",
    (Reconstructor, "starts", lambda self, x, rng, s=Reconstructor.starts: s(self, x, rng)[:, :1]),
)
def test_the_restart_that_ends_nearest_is_returned():
    starts = 0.5 * RNG.normal((7, 4))
    errors = squared_error((starts @ columns()).reshape(21, *SHAPE), X.repeat_interleave(7, 0))
    lowest, best = errors.reshape(3, 7).min(1)
    z, found = linear(replace(SETTINGS, steps=0, restarts=7)).search(X, RNG)
    torch.testing.assert_close(z, starts[torch.arange(3), best])
    torch.testing.assert_close(found, lowest)
    assert len(best.unique()) > 1


SHORT = LatentSearchSettings(steps=3, restarts=2)


def test_the_classifier_is_trained_after_the_generator():
    made = learner(classifier="reconstructions", gan_steps=2, search=SHORT, critic_steps=1)
    for i in range(4):
        before = {name: [p.clone() for p in getattr(made, name).parameters()] for name in "GDC"}
        losses = made.step(X, Y, rng=Rng.of_batch(i, 3))
        now = {name for name in "GDC" if changed(getattr(made, name), before[name])}
        assert now == ({"G", "D"} if i < 2 else {"C"})
    assert list(losses) == ["cross_entropy"]
    outcome = made.outcome()
    assert outcome.classifier is made.C and made.C is not made.task.untrained
    assert isinstance(outcome.purifier, Reconstructor) and outcome.purifier.E is None
    bare = learner()
    assert bare.outcome().classifier is bare.task.classifier


class Recorder(torch.nn.Module):
    """A classifier that keeps its last input."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x):
        self.x = x
        return self.bias.expand(len(x), 2)


def step_on_originals(self, x, y, rng):
    return {"loss": self.C(x).sum().item()}


@fails_under(
    "classifier trained on originals only",
    (DefenseGANLearner, "step_classifier", step_on_originals),
    classifier="reconstructions",
)
@pytest.mark.parametrize("classifier", ["reconstructions", "both"])
def test_the_training_images_of_the_classifier(classifier):
    made = learner(classifier=classifier, gan_steps=1, search=SHORT)
    made.C = Recorder()
    made.taken += 1
    made.step(X, Y, rng=RNG)
    x_hat = made.projection(restarts=1).purify(X, RNG)
    shown = torch.cat([X, x_hat]) if classifier == "both" else x_hat
    torch.testing.assert_close(made.C.x, shown)


def files_of_a_run(folder, **settings):
    """A learner, and the files that a run saves for it."""
    made = learner(**settings)
    made.E = Critic(SHAPE, 2, 4)
    checkpoint.save(folder / "checkpoint.safetensors", {"steps": 0, "state": made.state_dict()})
    save_weights(made.outcome().defended, folder / "weights.safetensors")
    save_weights(made.projection(), folder / "purifier.safetensors")
    return made


def same(a, b):
    return all(map(torch.equal, a.parameters(), b.parameters()))


@pytest.mark.parametrize("file", ["checkpoint", "weights", "purifier"])
def test_generator_and_encoder_are_loaded_from_a_file(tmp_path, file):
    path = str(tmp_path / f"{file}.safetensors")
    old = files_of_a_run(tmp_path)
    made = learner(weights=path)
    assert same(made.G, old.G) and same(made.E, old.E)
    torch.testing.assert_close(made.outcome().purifier(X), old.outcome().purifier(X))
    assert same(made.outcome().purifier.E, old.E)
    with pytest.raises(ValueError, match="steps=0"):
        made.step(X, Y, rng=RNG)


def test_a_file_without_an_encoder_gives_no_approximation(tmp_path):
    save_weights(learner().outcome().defended, tmp_path / "weights.safetensors")
    made = learner(weights=str(tmp_path / "weights.safetensors"))
    assert not hasattr(made.outcome().purifier, "differentiable_approximation")


def test_with_a_given_generator_only_the_classifier_is_trained(tmp_path):
    files_of_a_run(tmp_path)
    made = learner(weights=str(tmp_path / "weights.safetensors"), classifier="both", search=SHORT)
    for i in range(2):
        before = {name: [p.clone() for p in getattr(made, name).parameters()] for name in "GEC"}
        made.step(X, Y, rng=Rng.of_batch(i, 3))
        assert {n for n in "GEC" if changed(getattr(made, n), before[n])} == {"C"}
    assert made.outcome().classifier is made.C


def test_a_file_that_does_not_fit_is_named(tmp_path):
    old = files_of_a_run(tmp_path)
    path = str(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights\.safetensors: G does not fit .*latent"):
        DefenseGAN(width=2, latent=5, weights=path).learner(task())
    save_weights(old.task.classifier, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors holds no G"):
        learner(weights=str(tmp_path / "other.safetensors"))
    torch.nn.init.constant_(old.G.linear.bias, torch.nan)
    save_weights(old.projection(), tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match=r"broken\.safetensors: G is not finite"):
        learner(weights=str(tmp_path / "broken.safetensors"))


def test_resuming_before_and_after_the_first_step_of_the_classifier(tmp_path):
    pixels = torch.arange(6 * 16).reshape(6, *SHAPE).to(torch.uint8)
    examples = Examples.of(pixels, torch.arange(6) % 2, ("a", "b"))
    method = DefenseGAN(2, 3, critic_steps=2, classifier="both", gan_steps=3, search=SHORT)

    def run(steps, folder):
        training = Training(method, steps, batch_size=3)
        return train(training, task(), lambda: examples, seed=0, folder=folder).state_dict()

    straight = run(6, None)
    for steps in (2, 4, 6):
        resumed = run(steps, tmp_path)
    assert_same_tree(resumed, straight)


def test_the_output_of_the_victim_does_not_depend_on_the_batch():
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
        {"threshold": 0.0},
        {"gan_steps": 5},
        {"gan_steps": -1, "classifier": "both"},
        {"classifier": "both"},
        {"weights": "G.safetensors", "gan_steps": 5, "classifier": "both"},
    ],
)
def test_settings_out_of_range_raise(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        DefenseGAN(**setting)
