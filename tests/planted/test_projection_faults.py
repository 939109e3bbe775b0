"""Faults planted in Defense-GAN and its search: each makes a test fail."""

from __future__ import annotations

import pytest
import torch

from laws import test_gan
from methods import test_defense_gan, test_encoder_projection
from nets import test_latent_projection
from spearshield.method import frozen
from spearshield.methods import defense_gan, encoder_projection
from spearshield.methods.defense_gan import DefenseGANLearner, Reconstructor
from spearshield.methods.encoder_projection import EncoderProjectionLearner
from spearshield.nets.latent_projection import LatentCache, LatentProjection


def loss_averaged_over_the_batch(patch):
    right = defense_gan.error_gradient

    def shrunk(generate, x, z, graph=False):
        return right(generate, x, z, graph) / len(x)

    patch.setattr(defense_gan, "error_gradient", shrunk)


def zero_gradient_of_the_release(patch):
    right = Reconstructor.descend

    def cut(self, x, z, velocity, steps, graph=False):
        z, velocity = right(self, x, z, velocity, steps)
        return z + 0 * x.sum() if graph else z, velocity

    patch.setattr(Reconstructor, "descend", cut)


def first_restart_whatever_its_error(patch):
    right = Reconstructor.starts
    patch.setattr(Reconstructor, "starts", lambda self, x, rng: right(self, x, rng)[:, :1])


def latents_known_by_place_alone(patch):
    def known(self, x, rng, weights, search):
        if len(self.latents) < len(x):
            self.latents = dict(enumerate(search(torch.arange(len(x)))))
        return torch.stack([self.latents[place] for place in range(len(x))])

    patch.setattr(LatentCache, "__call__", known)


def suspicion_of_nothing(patch):
    patch.setattr(LatentProjection, "detection_score", lambda self, x: torch.zeros(len(x)))


def slope_taken_for_each_column(patch):
    norm = torch.linalg.vector_norm

    def columns(gradient, dim):
        return norm(gradient.reshape(len(gradient), -1, 4), dim=1) if dim == 1 else norm(gradient)

    patch.setattr(torch.linalg, "vector_norm", columns)


def encoder_that_sees_no_noise(patch):
    patch.setattr(encoder_projection, "noisy", lambda x, amplitude, rng: x)


def encoder_that_is_misled_at_random(patch):
    patch.setattr(
        EncoderProjectionLearner,
        "adversarial",
        lambda self, x, rng: encoder_projection.noisy(x, self.encoder.adversarial_eps, rng),
    )


def generator_that_learns_with_the_encoder(patch):
    patch.setattr(
        encoder_projection,
        "frozen",
        lambda net: net if isinstance(net, test_encoder_projection.Scale) else frozen(net),
    )


def classifier_that_never_sees_a_reconstruction(patch):
    patch.setattr(
        DefenseGANLearner,
        "step_classifier",
        lambda self, x, y, rng: {"loss": self.C(x).sum().item()},
    )


CAUGHT_BY = {
    loss_averaged_over_the_batch: test_defense_gan.test_two_steps_with_momentum_by_hand,
    zero_gradient_of_the_release: (
        test_latent_projection.test_the_gradient_through_the_last_steps_excludes_earlier_steps
    ),
    first_restart_whatever_its_error: (
        test_defense_gan.test_the_restart_that_ends_nearest_is_returned
    ),
    suspicion_of_nothing: (
        test_latent_projection.test_the_detection_score_is_the_relative_excess_of_the_error
    ),
    slope_taken_for_each_column: test_gan.test_the_penalty_of_a_linear_critic,
    encoder_that_sees_no_noise: lambda: (
        test_encoder_projection.test_the_loss_and_the_update_by_hand(0.3, 0.2)
    ),
    encoder_that_is_misled_at_random: (
        test_encoder_projection.test_adversarial_noise_is_one_step_that_increases_the_error
    ),
    generator_that_learns_with_the_encoder: lambda: (
        test_encoder_projection.test_the_loss_and_the_update_by_hand(0.3, 0.2)
    ),
    classifier_that_never_sees_a_reconstruction: lambda: (
        test_defense_gan.test_the_training_images_of_the_classifier("reconstructions")
    ),
}


@pytest.mark.parametrize("fault", CAUGHT_BY, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    check = CAUGHT_BY[fault]
    check()
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check()


def test_latents_known_by_place_alone_are_caught(monkeypatch):
    check = test_latent_projection.test_a_cached_image_is_not_searched_again
    with monkeypatch.context() as patch:
        check(patch)
    with monkeypatch.context() as patch:
        latents_known_by_place_alone(patch)
        with pytest.raises((AssertionError, IndexError)):
            check(patch)
