"""Faults planted in learned attacks and in what they learn from: each makes a test fail."""

from __future__ import annotations

import pytest
import torch

import test_replay
from methods import test_adv_gan, test_cycle_adv_gan
from spearshield import replay
from spearshield.method import frozen
from spearshield.methods import adv_gan, cycle_adv_gan
from spearshield.methods.adv_gan import Differentiable
from spearshield.nets.adv_gan import Perturber
from spearshield.replay import Replay
from spearshield.threat import Linf


def replayed_by_place_in_the_batch(patch):
    patch.setattr(Replay, "perturb", lambda self, model, x, y, rng: self.x_adv[: len(x)])


def kept_whatever_it_was_made_of(patch):
    patch.setattr(replay, "_digest", lambda parts: "the same")


def attack_that_helps_the_classifier(patch):
    right = adv_gan.error_loss
    patch.setattr(adv_gan, "error_loss", lambda *given: -right(*given))


def black_box_differentiated(patch):
    patch.setattr(Differentiable, "model", lambda self: frozen(self.task.classifier))


def queries_that_nobody_counts(patch):
    distance = Differentiable.distance

    def uncounted(self, x):
        before = self.queries.clone()
        loss = distance(self, x)
        self.queries.copy_(before)
        return loss

    patch.setattr(Differentiable, "distance", uncounted)


def perturbation_left_unclipped(patch):
    patch.setattr(Perturber, "forward", lambda self, x: (x + self.generator(x)).clamp(0, 1))


def size_that_is_always_free(patch):
    patch.setattr(cycle_adv_gan, "size_loss", lambda x_adv, x, free: (x_adv - x).sum() * 0)


CAUGHT_BY = {
    replayed_by_place_in_the_batch: test_replay.test_every_image_gets_its_own_in_any_order,
    kept_whatever_it_was_made_of: lambda folder: (
        test_replay.test_what_was_made_of_something_else_is_made_anew(folder, "weights")
    ),
    attack_that_helps_the_classifier: test_adv_gan.test_all_losses_by_hand,
    black_box_differentiated: (
        test_adv_gan.test_a_black_box_is_asked_about_perturbed_images_and_not_differentiated
    ),
    queries_that_nobody_counts: (
        test_adv_gan.test_a_black_box_is_asked_about_perturbed_images_and_not_differentiated
    ),
    perturbation_left_unclipped: lambda: (
        test_adv_gan.test_the_perturber_is_inside_the_threat_model_by_construction(Linf(0.1), True)
    ),
    size_that_is_always_free: lambda: (
        test_cycle_adv_gan.test_the_generators_go_down_each_loss_by_its_weight("size", -4.0, 0.0)
    ),
}


@pytest.mark.parametrize("fault", CAUGHT_BY, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_caught(fault, tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "PART", 4)
    check = CAUGHT_BY[fault]
    given = (tmp_path,) if fault is kept_whatever_it_was_made_of else ()
    test_replay.Noisy.asked.clear()
    torch.manual_seed(0)
    check(*given)
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check(*given)
