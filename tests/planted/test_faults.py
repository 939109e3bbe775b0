"""The tests are tested: each fault planted here must make one of them fail."""

from __future__ import annotations

import pytest
import torch

from attacks import test_pgd as pgd
from contracts import test_attacks as contract
from laws import test_threat as laws
from spearshield import adversary as attack
from spearshield.adversary import LossGradient, loss_gradient
from spearshield.attacks import fgsm
from spearshield.attacks.bim import BIM
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.attacks.rand_fgsm import RandFGSM
from spearshield.losses.margin import cross_entropy
from spearshield.rng import Rng
from spearshield.threat import L2, Linf, ThreatModel, norm2

BALL = Linf(0.1)


def unprojected_run(self, model, x, y, rng):
    x_adv = x
    for _ in range(self.steps):
        gradient = loss_gradient(model, x_adv, y, cross_entropy).gradient
        x_adv = x_adv + self.step_size * self.threat.steepest_step(gradient)
    return self.threat.project(x_adv, x)


def accumulating_gradient(model, x, y, loss):
    x = x.clone().requires_grad_()
    value = loss(model(x), y)
    value.sum().backward()
    return LossGradient(value.detach(), x.grad, value.detach() > 0)


def nan_passes_contains(self, x_adv, x, tolerance=1e-5):
    outside = ((x_adv < 0) | (x_adv > 1)).flatten(1).any(1)
    return ~(outside | (self.distance(x_adv, x) > self.eps + tolerance))


def nan_passes_the_door(x):
    if ((x < 0) | (x > 1)).any():
        raise ValueError("image 5 must be in [0, 1]")


FAULTS = {
    "no-op projection": (
        (Linf, "clip", lambda self, delta: delta),
        lambda: contract.test_stays_inside_its_threat_model(BIM(BALL, step_size=0.05)),
    ),
    "clamp of the perturbation in place of the image": (
        (ThreatModel, "project", lambda self, z, x: x + self.clip(z - x).clamp(0, 1)),
        lambda: contract.test_stays_inside_its_threat_model(FGSM(BALL)),
    ),
    "clamp before clip": (
        (ThreatModel, "project", lambda self, z, x: x + self.clip(z.clamp(0, 1) - x)),
        lambda: laws.test_project_equals_clip_where_the_ball_is_inside_the_pixel_range(L2(0.5)),
    ),
    "pixels clipped one by one in L2": (
        (L2, "clip", lambda self, delta: delta.clamp(-self.eps, self.eps)),
        lambda: laws.test_clip_reaches_the_boundary_and_no_further(L2(0.5)),
    ),
    "L2 perturbation always scaled to the boundary": (
        (L2, "clip", lambda self, delta: self.eps * self.steepest_step(delta)),
        lambda: laws.test_clip_leaves_small_perturbations_unchanged(L2(0.5)),
    ),
    "unprojected loop": (
        (PGD, "_run", unprojected_run),
        lambda: pgd.test_every_iterate_stays_in_the_ball(BALL),
    ),
    "descent for ascent": (
        (Linf, "steepest_step", lambda self, gradient: -gradient.sign()),
        lambda: contract.test_succeeds_where_it_can(FGSM(BALL)),
    ),
    "ignored seed": (
        (Rng, "fold", lambda self, value: Rng(value, self.ids)),
        lambda: contract.test_randomness_comes_from_the_rng_alone(PGD(BALL)),
    ),
    "global generator": (
        (Rng, "normal", lambda self, shape: torch.randn(len(self.ids), *shape)),
        lambda: contract.test_randomness_comes_from_the_rng_alone(RandFGSM(BALL)),
    ),
    "randomness of the place in the batch": (
        (Rng, "__getitem__", lambda self, index: Rng(self.key, self.ids[: len(self.ids[index])])),
        lambda: contract.test_order_does_not_matter(PGD(BALL)),
    ),
    "gradient normalised over the batch": (
        (L2, "steepest_step", lambda self, gradient: gradient / gradient.norm()),
        lambda: contract.test_each_image_is_independent_of_the_batch(FGSM(L2(0.5))),
    ),
    "faint gradient lost": (
        (L2, "steepest_step", lambda self, gradient: gradient / norm2(gradient).clamp(min=1e-12)),
        lambda: laws.test_the_steepest_step_does_not_depend_on_the_gradients_scale(L2(0.5), 1e-25),
    ),
    "gradients left in the weights": (
        (fgsm, "loss_gradient", accumulating_gradient),
        lambda: contract.test_does_not_change_model_or_inputs(FGSM(BALL)),
    ),
    "NaN that passes a range check": (
        (attack, "check_images", nan_passes_the_door),
        lambda: contract.test_raises_for_pixels_that_are_not_in_range(FGSM(BALL), float("nan")),
    ),
    "NaN that passes for allowed": (
        (ThreatModel, "contains", nan_passes_contains),
        lambda: laws.test_contains_no_image_with_an_invalid_pixel(BALL, float("nan")),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_makes_a_test_fail(fault, monkeypatch):
    (owner, name, faulty), check = FAULTS[fault]
    check()
    monkeypatch.setattr(owner, name, faulty)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check()
