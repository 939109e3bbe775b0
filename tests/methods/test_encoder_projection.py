"""Encoder projection: its loss on numbers worked by hand, and where G and E come from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from contracts.test_methods import assert_same_tree
from methods.test_defense_gan import RNG, SHAPE, Linear, Shift, X, Y, changed, same, task
from mutations import fails_under
from nets.test_latent_projection import curved
from spearshield.dataset import Examples
from spearshield.method import frozen
from spearshield.methods import encoder_projection
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.methods.encoder_projection import (
    EncoderProjection,
    Projector,
    RefinedProjector,
    noisy,
)
from spearshield.nets.latent_projection import LatentSearchSettings, squared_error
from spearshield.rng import Rng, ambient
from spearshield.storage.weights import save_weights
from spearshield.training.loop import Training, train

GAN = DefenseGAN(width=2, latent=4, critic_steps=1)


def learner(gan=GAN, **settings):
    with ambient(1):
        return EncoderProjection(gan, **{"gan_steps": 1, **settings}).learner(task())


class Scale(Shift):
    """A generator of constant images with the value 0.5 + 0.1 z."""

    def forward(self, z):
        return (0.5 + 0.1 * z + 0 * self.value)[:, :, None, None].expand(len(z), *SHAPE)


def by_hand(**settings):
    """G returns 0.5 + 0.1 z in every pixel, E the sum of the pixels."""
    made = learner(encoder_steps=9, latent_weight=0.1, **settings)
    made.G, made.E = Scale(), Linear(torch.ones(16, 1))
    made.opt_e = torch.optim.SGD(made.E.parameters(), 1e-3)
    return made


@fails_under(
    "encoder trained without noise",
    (encoder_projection, "noisy", lambda x, amplitude, rng: x),
    noise=0.3,
    eps=0.2,
)
@fails_under(
    "generator trained with the encoder",
    (encoder_projection, "frozen", lambda net: net if isinstance(net, Scale) else frozen(net)),
    noise=0.3,
    eps=0.2,
)
@pytest.mark.parametrize(("noise", "eps"), [(0.0, 0.0), (0.3, 0.0), (0.3, 0.2)])
def test_the_loss_and_the_update_by_hand(noise, eps):
    """The first half of the images has adversarial noise, the second half random noise."""
    made = by_hand(noise=noise, adversarial_eps=eps)
    adversarial = made.adversarial(X[:1], RNG[:1].fold(4))
    shown = torch.cat([adversarial, noisy(X[1:], noise, RNG[1:])]).flatten(1)
    assert torch.equal(adversarial, X[:1]) == (eps == 0)
    losses = made.update_encoder(X, RNG)
    z = shown.sum(1, keepdim=True)
    off = 0.5 + 0.1 * z - X.flatten(1)
    assert float(losses["pixels"]) == pytest.approx(float(off.square().mean()))
    assert float(losses["latents"]) == pytest.approx(float(z.square().mean()))
    gradient = (2 * off.mean(1, keepdim=True) * 0.1 * shown).mean(0)
    gradient = gradient + 0.1 * (2 * z * shown).mean(0)
    torch.testing.assert_close(made.E.weight.detach()[:, 0], 1 - 1e-3 * gradient)
    assert made.G.value.grad is None


def test_the_learning_rate_decays_over_the_encoders_steps():
    made = learner(encoder_steps=2, lr=0.5)
    rates = []
    for i in range(4):
        made.step(X, Y, rng=Rng.of_batch(i, 3))
        rates.append(made.opt_e.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 0.5, 0.25, 0.0])


def random_noise(self, x, rng):
    return encoder_projection.noisy(x, self.encoder.adversarial_eps, rng)


@fails_under(
    "random noise in place of adversarial noise",
    (encoder_projection.EncoderProjectionLearner, "adversarial", random_noise),
)
def test_adversarial_noise_is_one_step_that_increases_the_error():
    """G(E(x)) is too bright for grey images, and brighter for brighter ones."""
    made = by_hand(adversarial_eps=0.2)
    x = torch.full((200, *SHAPE), 0.5)
    shown = made.adversarial(x, Rng.of_batch(0, 200))
    size = (shown - x).flatten(1).amax(1, keepdim=True)
    assert 0 <= size.min() < 0.01 and 0.19 < size.max() <= 0.2
    assert float(size.mean()) == pytest.approx(0.1, abs=0.02)
    # From half the size below, a pixel ends half the size above; from half above, at the bound.
    moved = (shown - x).flatten(1) / size
    low = moved < 0.75
    torch.testing.assert_close(moved[low], torch.full_like(moved[low], 0.5))
    torch.testing.assert_close(moved[~low], torch.ones_like(moved[~low]))
    assert 0.4 < float(low.float().mean()) < 0.6
    assert made.adversarial(torch.ones_like(X), RNG).max() == 1


def test_random_noise_has_patches_and_an_amplitude_for_each_image():
    x = torch.full((300, 2, 40, 32), 0.5)
    noise = noisy(x, 0.4, Rng.of_batch(0, 300)) - x
    amplitude = noise.abs().amax((1, 2, 3))
    torch.testing.assert_close(noise.abs(), amplitude[:, None, None, None].expand_as(noise))
    assert 0 <= amplitude.min() < 0.02 and 0.38 < amplitude.max() <= 0.4
    assert float(amplitude.mean()) == pytest.approx(0.2, abs=0.03)
    alike = (noise[..., 1:] * noise[..., :-1] > 0).float().mean((1, 2, 3))
    kinds = [alike < 0.6, (alike > 0.65) & (alike < 0.8), alike > 0.83]
    assert all(80 < int(kind.sum()) < 120 for kind in kinds), [int(kind.sum()) for kind in kinds]
    assert torch.equal(noisy(X, 0.0, RNG), X)
    large = noisy(X, 9.0, RNG)
    assert large.min() == 0 and large.max() == 1


def test_the_encoder_is_trained_to_invert_the_generator():
    made = learner(encoder_steps=150, noise=0.1)
    for deconv in made.G.deconvs:
        torch.nn.init.normal_(deconv.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    x = made.G(Rng.of_batch(0, 64).normal((4,))).detach()

    def error():
        return squared_error(made.outcome().purifier(x), x).mean().item()

    before = error()
    for i in range(1, 151):
        made.taken.fill_(i)
        made.step(x, torch.zeros(64, dtype=torch.long), rng=Rng.of_batch(i, 64))
    assert error() < 0.5 * before


def test_the_encoder_is_trained_after_the_generator():
    made = learner(gan_steps=2)
    for i in range(4):
        before = {name: [p.clone() for p in getattr(made, name).parameters()] for name in "GDE"}
        made.step(X, Y, rng=Rng.of_batch(i, 3))
        now = {name for name in "GDE" if changed(getattr(made, name), before[name])}
        assert now == ({"G", "D"} if i < 2 else {"E"})


def given(folder, **settings):
    """A learner, its file of weights, and the settings of Defense-GAN that load them."""
    made = learner(**settings)
    path = folder / "weights.safetensors"
    save_weights(made.outcome().defended, path)
    return made, replace(GAN, weights=str(path))


def test_generator_and_encoder_are_loaded_from_a_file(tmp_path):
    old, gan = given(tmp_path)
    loaded = learner(gan, gan_steps=0, encoder_steps=0)
    assert same(loaded.G, old.G) and same(loaded.E, old.E)
    torch.testing.assert_close(loaded.outcome().purifier(X), old.outcome().purifier(X))
    with pytest.raises(ValueError, match="steps=0"):
        loaded.step(X, Y, rng=RNG)
    trained = learner(gan, gan_steps=0, encoder_steps=5)
    assert same(trained.G, old.G) and not same(trained.E, old.E)
    assert set(trained.step(X, Y, rng=RNG)) == {"pixels", "latents"}
    assert same(trained.G, old.G)


def test_the_same_file_gives_defense_gan_its_approximation(tmp_path):
    old, gan = given(tmp_path)
    with ambient(1):
        purifier = gan.learner(task()).outcome().purifier
    torch.testing.assert_close(purifier.differentiable_approximation(X), old.outcome().purifier(X))


def test_a_file_without_an_encoder_is_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(GAN.learner(task()).outcome().defended, path)
    with pytest.raises(ValueError, match=r"weights\.safetensors holds no E; .*encoder_steps > 0"):
        learner(replace(GAN, weights=str(path)), gan_steps=0, encoder_steps=0)


def test_resuming_in_both_stages_changes_nothing(tmp_path):
    pixels = torch.arange(6 * 16).reshape(6, *SHAPE).to(torch.uint8)
    examples = Examples.of(pixels, torch.arange(6) % 2, ("a", "b"))
    method = EncoderProjection(GAN, gan_steps=3, encoder_steps=3)

    def run(steps, folder):
        training = Training(method, steps, batch_size=3)
        return train(training, task(), lambda: examples, seed=0, folder=folder).state_dict()

    straight = run(6, None)
    for steps in (2, 4, 6):
        resumed = run(steps, tmp_path)
    assert_same_tree(resumed, straight)


def test_the_purifier_is_the_image_of_the_encoders_latent():
    made = learner(replace(GAN, threshold=0.02))
    purifier = made.outcome().purifier
    assert isinstance(purifier, Projector)
    z = made.E(X)
    torch.testing.assert_close(purifier(X), made.G(z))
    error = squared_error(made.G(z), X)
    torch.testing.assert_close(purifier.search(X, RNG), (z, error))
    torch.testing.assert_close(purifier.detection_score(X), error / 0.02 - 1)


def test_its_approximation_has_the_exact_gradient():
    purifier, x = learner().outcome().purifier, X.clone().requires_grad_()
    gradients = [
        torch.autograd.grad(f(x).square().sum(), x)[0]
        for f in (purifier, purifier.differentiable_approximation)
    ]
    torch.testing.assert_close(*gradients)


def test_refinement_is_the_search_from_the_encoders_latent():
    made = learner(refine_steps=3)
    purifier = made.outcome().purifier
    assert isinstance(purifier, RefinedProjector)
    z, v = made.E(X).detach(), torch.zeros(3, 4)
    for _ in range(3):
        z = z.detach().requires_grad_()
        error = squared_error(made.G(z), X).sum()
        v = 0.7 * v + torch.autograd.grad(error, z)[0]
        z = z.detach() - 10.0 * v
    torch.testing.assert_close(purifier.search(X, RNG)[0], z)


def test_the_gradient_through_all_refinement_steps_includes_the_encoder():
    base = curved()
    settings = LatentSearchSettings(steps=3, restarts=1, lr=1.0, unroll=3)
    purifier = RefinedProjector(base.G, 5, settings, base.E).double()
    x = X[1:2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: purifier.purify(x, RNG[1:2]), x)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"noise": -1.0}, "noise"),
        ({"adversarial_eps": -1.0}, "adversarial_eps"),
        ({"latent_weight": -1.0}, "latent_weight"),
        ({"lr": -1.0}, "lr"),
        ({"refine_steps": -1}, "refine_steps"),
        ({"gan_steps": -1}, "gan_steps"),
        ({"gan_steps": 0}, "gan_steps=0"),
        ({"encoder_steps": 0}, "encoder_steps"),
        ({"gan": DefenseGAN(weights="G.safetensors")}, "gan_steps"),
        ({"gan": DefenseGAN(classifier="both", gan_steps=1)}, "gan.classifier"),
    ],
)
def test_settings_that_do_not_fit_raise(settings, named):
    with pytest.raises(ValueError, match=named):
        EncoderProjection(**settings)
