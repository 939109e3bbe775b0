"""The state of an APGD run: checkpoints, best points and step sizes, by hand."""

from __future__ import annotations

import torch

from spearshield.attacks.apgd import APGDState, checkpoints


def test_checkpoints_are_those_of_the_paper():
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(100) == {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}
    assert checkpoints(10) == {3: 3, 5: 2, 6: 1, 7: 1, 8: 1, 9: 1, 10: 1}
    assert checkpoints(1) == {1: 1}


def state_of(**fields):
    """The state of five images, distinguished by their pixel."""
    pixel, zero = torch.arange(5.0)[:, None, None, None], torch.zeros(5)
    names = ("x", "x_now", "x_last", "gradient", "x_best", "gradient_best")
    images = {name: pixel + 10 * k for k, name in enumerate(names)}
    losses = {"loss": zero - 1, "loss_best": zero.clone(), "loss_best_before": zero.clone()}
    integers = {name: zero.long() for name in ("y", "target", "rises")}
    masks = {name: zero.bool() for name in ("wrong", "halved")}
    fresh = {**images, **losses, **integers, **masks, "step_size": torch.ones_like(pixel)}
    return APGDState(**{**fresh, **fields})


def test_a_rise_counts_even_below_the_best_loss():
    state = state_of()  # the loss is -1, and the best loss is 0
    x_new, gradient = state.x + 60, state.x + 70
    state.update(x_new, torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5]), gradient, state.wrong)
    assert state.rises.tolist() == [0, 0, 1, 1, 1]
    assert state.loss_best.tolist() == [0.0, 0.0, 0.0, 0.0, 0.5]
    assert state.x_best.flatten().tolist() == [40, 41, 42, 43, 64]
    assert state.gradient_best.flatten().tolist() == [50, 51, 52, 53, 74]


def test_stalled_images_halve_their_step_and_return_to_the_best_point():
    # Steps that raised the loss (15 suffice); best loss before and now; halved before; expected.
    cases = [
        (14, 0.0, 1.0, False, True),  # too few rises
        (15, 0.0, 1.0, False, False),
        (15, 1.0, 1.0, False, True),  # no new best loss, and the step was not halved last time
        (15, 1.0, 1.0, True, False),
        (14, 1.0, 1.0, True, True),
    ]
    rises, before, best, halved, expected = (torch.tensor(c) for c in zip(*cases, strict=True))
    state = state_of(rises=rises, loss_best_before=before, loss_best=best, halved=halved)
    state.at_checkpoint(15.0)
    pixel, column = state.x, expected[:, None, None, None]
    assert torch.equal(state.halved, expected)
    assert torch.equal(state.step_size, torch.where(column, 0.5, 1.0))
    assert torch.equal(state.x_now, torch.where(column, pixel + 40, pixel + 10))
    assert torch.equal(state.gradient, torch.where(column, pixel + 50, pixel + 30))
    assert torch.equal(state.loss, torch.where(expected, best, -1.0))
    assert torch.equal(state.loss_best_before, best) and not state.rises.any()
