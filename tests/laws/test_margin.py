"""The losses that attacks increase: values by hand, and their invariances."""

from __future__ import annotations

import pytest
import torch

from spearshield.losses.margin import (
    LOSSES,
    cross_entropy,
    dlr,
    margin_loss,
    other_logits,
    targeted_dlr,
)
from spearshield.rng import Rng

LOGITS = torch.tensor([[3.0, 1.0, 2.0, -1.0]])
ALL = torch.arange(4)


def every_label(loss, *rest):
    return loss(LOGITS.expand(4, 4), ALL, *rest).tolist()


def test_the_margin_loss_is_the_difference_to_the_highest_other_logit():
    assert every_label(margin_loss) == [-1.0, 2.0, 1.0, 4.0]


def test_other_logits_exclude_the_label():
    assert other_logits(LOGITS, torch.tensor([0])).argmax(1).item() == 2


def test_cross_entropy_has_one_value_per_image():
    exact = LOGITS.logsumexp(1) - LOGITS[0]
    assert every_label(cross_entropy) == pytest.approx(exact.tolist())


def test_dlr_divides_by_the_gap_between_first_and_third():
    assert every_label(dlr) == pytest.approx([-1 / 2, 2 / 2, 1 / 2, 4 / 2])


def test_targeted_dlr_divides_by_the_gap_to_the_mean_of_third_and_fourth():
    target = torch.tensor([1, 2, 3, 0])  # logits 1, 2, -1, 3; the gap is 3 - (1 - 1) / 2
    assert every_label(targeted_dlr, target) == pytest.approx([-2 / 3, 1 / 3, -3 / 3, 4 / 3])


def test_the_ratios_are_invariant_to_shift_and_scale():
    logits, y = Rng.of_batch(0, 50).normal((6,)).double(), torch.arange(50) % 6
    for loss in (dlr, lambda z, y: targeted_dlr(z, y, (y + 1) % 6)):
        torch.testing.assert_close(loss(1e6 * logits + 3, y), loss(logits, y))


def test_margin_loss_and_dlr_are_positive_if_and_only_if_misclassified():
    logits, y = Rng.of_batch(0, 50).normal((6,)), torch.arange(50) % 6
    wrong = logits.argmax(1) != y
    assert wrong.any() and not wrong.all()
    for loss in (margin_loss, dlr):
        assert torch.equal(loss(logits, y) > 0, wrong)


def test_only_cross_entropy_loses_its_gradient_where_the_model_is_confident():
    y = torch.zeros(1, dtype=torch.long)
    has_gradient = []
    for loss in (*LOSSES.values(), lambda z, y: targeted_dlr(z, y, y + 1)):
        logits = (1e4 * LOGITS).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(logits, y).sum(), logits)
        has_gradient.append(bool(gradient.any()))
    assert list(LOSSES) == ["cross_entropy", "margin", "dlr"]
    assert has_gradient == [False, True, True, True]


@pytest.mark.parametrize("loss", [dlr, lambda z, y: targeted_dlr(z, y, y + 1)])
def test_equal_logits_give_a_finite_gradient(loss):
    logits = torch.zeros(1, 4, requires_grad=True)
    value = loss(logits, torch.tensor([0]))
    assert value == 0
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


def test_too_few_classes_raise():
    y = torch.tensor([0])
    with pytest.raises(ValueError, match="at least 3 classes, the model has 2"):
        dlr(LOGITS[:, :2], y)
    with pytest.raises(ValueError, match="at least 4 classes, the model has 3"):
        targeted_dlr(LOGITS[:, :3], y, y + 1)
    assert margin_loss(LOGITS[:, :2], y) == -2
