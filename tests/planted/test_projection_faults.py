"""Faults planted in Defense-GAN and its search: each makes a test fail."""

from __future__ import annotations

import pytest
import torch

from laws import test_gan
from methods import test_defense_gan
from nets import test_latent_projection
from spearshield.method import frozen
from spearshield.methods import defense_gan
from spearshield.methods.defense_gan import DefenseGANLearner
from spearshield.nets import latent_projection
from spearshield.nets.latent_projection import LatentCache, Projection, SearchState


def loss_averaged_over_the_batch(patch):
    right = latent_projection.loss_and_gradient

    def shrunk(generator, x, z, graph=False):
        errors, slope = right(generator, x, z, graph)
        return errors, slope / len(x)

    patch.setattr(latent_projection, "loss_and_gradient", shrunk)


def zero_gradient_of_the_release(patch):
    patch.setattr(Projection, "_replay", lambda self, x, group: group.z[:, 0] + 0 * x.sum())


def first_restart_whatever_its_error(patch):
    patch.setattr(
        SearchState, "best", lambda self, generator, x: self.restarts(self.places[:, None] * 0)
    )


def latents_known_by_place_alone(patch):
    def known(self, x, rng, weights, find):
        if len(self.latents) < len(x):
            self.latents = dict(enumerate(find(torch.arange(len(x)))))
        return torch.stack([self.latents[place] for place in range(len(x))])

    patch.setattr(LatentCache, "__call__", known)


def suspicion_of_nothing(patch):
    patch.setattr(Projection, "detection_score", lambda self, x: torch.zeros(len(x)))


def slope_taken_for_each_column(patch):
    norm = torch.linalg.vector_norm

    def columns(gradient, dim):
        return norm(gradient.reshape(len(gradient), -1, 4), dim=1) if dim == 1 else norm(gradient)

    patch.setattr(torch.linalg, "vector_norm", columns)


def encoder_that_sees_no_noise(patch):
    patch.setattr(defense_gan, "noisy", lambda x, most, rng: x)


def encoder_that_is_misled_at_random(patch):
    patch.setattr(
        defense_gan.DefenseGANLearner,
        "misleading",
        lambda self, x, rng: defense_gan.noisy(x, self.method.encoder_eps, rng),
    )


def generator_that_learns_with_the_encoder(patch):
    patch.setattr(
        defense_gan,
        "frozen",
        lambda net: net if isinstance(net, test_defense_gan.Scale) else frozen(net),
    )


def classifier_that_never_sees_a_reconstruction(patch):
    patch.setattr(
        DefenseGANLearner,
        "step_classifier",
        lambda self, x, y, rng: {"loss": self.C(x).sum().item()},
    )


CAUGHT_BY = {
    loss_averaged_over_the_batch: test_latent_projection.test_two_steps_with_momentum_by_hand,
    zero_gradient_of_the_release: (
        test_latent_projection.test_the_gradient_through_the_last_steps_is_theirs_alone
    ),
    first_restart_whatever_its_error: (
        test_latent_projection.test_the_restart_that_ends_nearest_counts
    ),
    suspicion_of_nothing: (
        test_latent_projection.test_suspicion_is_the_error_of_the_answer_beside_the_threshold
    ),
    slope_taken_for_each_column: test_gan.test_the_penalty_of_a_linear_critic,
    encoder_that_sees_no_noise: lambda: test_defense_gan.test_the_encoders_losses_by_hand(0.3, 0.2),
    encoder_that_is_misled_at_random: (
        test_defense_gan.test_noise_that_misleads_is_a_step_up_the_error
    ),
    generator_that_learns_with_the_encoder: lambda: (
        test_defense_gan.test_the_encoders_losses_by_hand(0.3, 0.2)
    ),
    classifier_that_never_sees_a_reconstruction: lambda: (
        test_defense_gan.test_what_the_classifier_is_shown("reconstructions")
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
    check = test_latent_projection.test_an_image_that_is_known_is_not_searched_for_again
    with monkeypatch.context() as patch:
        check(patch)
    with monkeypatch.context() as patch:
        latents_known_by_place_alone(patch)
        with pytest.raises((AssertionError, IndexError)):
            check(patch)
