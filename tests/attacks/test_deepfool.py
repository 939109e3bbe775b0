"""DeepFool: exact on affine classifiers, and Newton's method on a curved one."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import Affine, HalfSpace, every_image, inner_images
from spearshield.adversary import misclassified
from spearshield.attacks.deepfool import DeepFool
from spearshield.threat import L2, Linf

NORMS = pytest.mark.parametrize("norm", [L2, Linf])


@NORMS
@pytest.mark.parametrize("classes", [2, 3, 10, 30])
def test_one_step_reaches_the_exact_distance_of_an_affine_classifier(norm, classes):
    model, x, threat = Affine(classes), inner_images(16), norm(1.0)
    y = model(x).argmax(1)
    attack = DeepFool(threat, steps=1, overshoot=0.02, candidates=classes)
    x_adv = attack(model, x, y)
    assert misclassified(model, x_adv, y).all()
    torch.testing.assert_close(threat.distance(x_adv, x), 1.02 * model.distance(x, threat))


def test_only_the_classes_with_the_highest_logits_are_candidates():
    model, x, threat = Affine(10), inner_images(64), L2(2.0)
    logits = model(x)
    y, second = logits.topk(2).indices.unbind(1)
    x_adv = DeepFool(threat, candidates=1)(model, x, y)
    assert torch.equal(model(x_adv).argmax(1), second)
    assert (threat.distance(x_adv, x) > 1.03 * model.distance(x, threat)).any()


def test_a_step_is_a_newton_step_on_a_curved_score():
    # Class 1 if the pixel exceeds 0.7. From 0.5: 0.24 / (2 * 0.5) = 0.24, plus the overshoot.
    def model(x):
        score = x.flatten(1).square() - 0.49
        return torch.cat([torch.zeros_like(score), score], 1)

    x, y = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    x_adv = DeepFool(Linf(0.5))(model, x, y)
    torch.testing.assert_close(x_adv, torch.full_like(x, 0.5 + 1.02 * 0.24))


@NORMS
def test_pixels_at_the_limit_do_not_prevent_success(norm):
    # Half of the pixels cannot move in their direction, so one step is not enough.
    model, y = HalfSpace(), torch.zeros(1, dtype=torch.long)
    x = torch.where(model.w > 0, 0.2, 0.0).detach()[None]
    x_adv = DeepFool(every_image(norm, x))(model, x, y)
    assert not misclassified(model, x, y).any()
    assert misclassified(model, x_adv, y).all()


@NORMS
def test_farther_than_eps_it_is_projected(norm):
    model, x = Affine(3), inner_images(16)
    threat = norm(0.5 * float(model.distance(x, norm(1.0)).min()))
    x_adv = DeepFool(threat)(model, x, model(x).argmax(1))
    size = threat.distance(x_adv, x)
    torch.testing.assert_close(size, torch.full_like(size, threat.eps))


def test_an_image_misclassified_from_the_start_is_returned_unchanged():
    model, x = Affine(3), inner_images(16)
    x_adv = DeepFool(L2(2.0))(model, x, (model(x).argmax(1) + 1) % 3)
    assert torch.equal(x_adv, x)


def test_an_image_without_gradient_is_returned_unchanged():
    x = inner_images(16)
    x_adv = DeepFool(L2(2.0))(
        lambda x: torch.tensor([1.0, 0.0]) + 0 * x.flatten(1)[:, :2], x, torch.zeros(16).long()
    )
    assert torch.equal(x_adv, x)


@pytest.mark.parametrize(
    "field", [{"steps": 0}, {"candidates": 0}, {"overshoot": 0.0}, {"overshoot": float("inf")}]
)
def test_arguments_out_of_range_raise(field):
    with pytest.raises(ValueError, match=f"{next(iter(field))}.* must be"):
        DeepFool(L2(1.0), **field)
