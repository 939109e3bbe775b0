"""Faults planted in learned attacks and in what they learn from: each makes a test fail."""

from __future__ import annotations

import pytest
import torch

from experiment import test_recipe
from methods import test_adv_gan, test_cycle_adv_gan
from nets import test_adv_gan as test_nets
from spearshield.experiment import overrides
from spearshield.judging.trial import Trial
from spearshield.method import frozen
from spearshield.methods import adv_gan, cycle_adv_gan
from spearshield.methods.adv_gan import AdvGAN
from spearshield.nets.adv_gan import PerturbationGenerator
from spearshield.storage import images as pictures
from spearshield.threat import Linf
from spearshield.training import precomputed_attack
from spearshield.training.black_box import BlackBox
from spearshield.training.precomputed_attack import PrecomputedAttack
from storage import test_images
from training import test_precomputed_attack


def replayed_by_place_in_the_batch(patch):
    patch.setattr(PrecomputedAttack, "perturb", lambda self, model, x, y, rng: self.x_adv[: len(x)])


def kept_whatever_it_was_made_of(patch):
    patch.setattr(precomputed_attack, "digest", lambda *parts: "the same")


def attack_that_helps_the_classifier(patch):
    right = adv_gan.misclassification_loss
    patch.setattr(adv_gan, "misclassification_loss", lambda *given: -right(*given))


def black_box_differentiated(patch):
    patch.setattr(BlackBox, "surrogate", lambda self: frozen(self.task.classifier))


def queries_that_nobody_counts(patch):
    right = BlackBox.query

    def uncounted(self, x):
        before = self.count.clone()
        answers = right(self, x)
        self.count.copy_(before)
        return answers

    patch.setattr(BlackBox, "query", uncounted)


def perturbation_left_unclipped(patch):
    patch.setattr(
        PerturbationGenerator, "forward", lambda self, x: (x + self.generator(x)).clamp(0, 1)
    )


def generator_told_the_same_of_every_image(patch):
    right = PerturbationGenerator.classifier_features
    patch.setattr(
        PerturbationGenerator,
        "classifier_features",
        lambda self, x: tuple(t * 0 + 0.5 for t in right(self, x)),
    )


def purifier_that_adds_whatever_it_likes(patch):
    def forward(self, x):
        return (
            (x + self.generator(x)).clamp(0, 1) if self.residual else 0.5 + 0.5 * self.generator(x)
        )

    patch.setattr(cycle_adv_gan.Purifier, "forward", forward)


def size_that_is_always_free(patch):
    patch.setattr(cycle_adv_gan, "size_loss", lambda x_adv, x, hinge: (x_adv - x).sum() * 0)


def networks_told_apart_by_their_layers_alone(patch):
    patch.setattr(precomputed_attack, "dump", repr)


def pixels_rounded_to_the_nearest_level(patch):
    patch.setattr(pictures, "quantize_towards", lambda x_adv, x: (255 * x_adv).round() / 255)


def trials_of_defences_that_are_gone(patch):
    patch.setattr(overrides, "_without_trials_of", lambda old, changed: changed)


def any_attack_said_to_come_from_elsewhere(patch):
    patch.setattr(Trial, "__post_init__", lambda self: None)


CAUGHT_BY = {
    replayed_by_place_in_the_batch: (
        test_precomputed_attack.test_images_are_found_by_id_in_any_order
    ),
    kept_whatever_it_was_made_of: lambda folder: (
        test_precomputed_attack.test_another_setting_needs_a_new_attack(folder, "weights")
    ),
    networks_told_apart_by_their_layers_alone: (
        test_precomputed_attack.test_another_network_of_the_attack_needs_a_new_attack
    ),
    pixels_rounded_to_the_nearest_level: (
        test_images.test_8_bits_of_an_attacked_image_lie_between_it_and_the_clean_one
    ),
    trials_of_defences_that_are_gone: (
        test_recipe.test_removing_a_defence_removes_the_trials_of_its_attack
    ),
    any_attack_said_to_come_from_elsewhere: (test_recipe.test_only_learned_attacks_are_transferred),
    attack_that_helps_the_classifier: test_adv_gan.test_all_losses_by_hand,
    black_box_differentiated: (
        test_adv_gan.test_a_black_box_is_queried_with_clean_and_perturbed_images
    ),
    queries_that_nobody_counts: (
        test_adv_gan.test_a_black_box_is_queried_with_clean_and_perturbed_images
    ),
    perturbation_left_unclipped: lambda: (
        test_nets.test_perturbed_images_are_inside_the_threat_model(Linf(0.1), True)
    ),
    generator_told_the_same_of_every_image: lambda: (
        test_nets.test_a_conditioned_generator_receives_probabilities_and_maps(AdvGAN)
    ),
    purifier_that_adds_whatever_it_likes: lambda: (
        test_cycle_adv_gan.test_purified_images_are_in_range(True, 0.1, 0.41)
    ),
    size_that_is_always_free: lambda: (
        test_cycle_adv_gan.test_the_generators_descend_each_loss_by_its_weight("size", -4.0, 0.0)
    ),
}


@pytest.mark.parametrize("fault", CAUGHT_BY, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_caught(fault, tmp_path, monkeypatch):
    monkeypatch.setattr(precomputed_attack, "PART", 4)
    check = CAUGHT_BY[fault]
    keeps = (kept_whatever_it_was_made_of, networks_told_apart_by_their_layers_alone)
    given = (tmp_path,) if fault in keeps else ()
    test_precomputed_attack.Noisy.batches.clear()
    torch.manual_seed(0)
    check(*given)
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check(*given)
