"""What each view differentiates, on a purifier whose gradient is known."""

from __future__ import annotations

import pytest
import torch

from analytic import HalfSpace
from spearshield.method import Defended, RandomPurifier
from spearshield.views import BPDA, EOT, Adaptive, Oblivious, Transferred


class Halve(torch.nn.Module):
    """Darkens by half, so a gradient through it is half of one past it."""

    def forward(self, x):
        return x / 2


class Noise(RandomPurifier):
    def purify(self, x, rng):
        return x + rng.normal(x.shape[1:])


X = torch.full((3, 1, 4, 4), 0.6)


def seen(view, victim):
    """The view's logits, and the gradient of the margin between its two classes."""
    x = X.clone().requires_grad_()
    logits = view(victim)(x)
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), x)
    return logits.detach(), gradient


def test_each_view_has_its_own_logits_and_gradient():
    bare = HalfSpace().eval()
    victim = Defended(Halve(), bare).eval()
    full = 2 * bare.w.detach().expand(3, 1, 4, 4)
    expected = {
        Oblivious(): (bare(X), full),
        Adaptive(): (bare(X / 2), full / 2),
        BPDA(): (bare(X / 2), full),
        EOT(5): (bare(X / 2), full / 2),
        Transferred(): (bare(X / 2), full / 2),
    }
    for view, (logits, gradient) in expected.items():
        got = seen(view, victim)
        torch.testing.assert_close(got[0], logits.detach(), msg=str(view))
        torch.testing.assert_close(got[1], gradient, msg=str(view))


def test_bpda_answers_to_the_bit_as_the_victim_does():
    victim = Defended(Halve(), HalfSpace()).eval()
    x = torch.rand(64, 1, 4, 4)
    assert torch.equal(BPDA()(victim)(x), victim(x))


class Rounds(torch.nn.Module):
    """Steps of a quarter, with a smooth stand-in."""

    def __init__(self):
        super().__init__()
        self.differentiable_approximation = Halve()

    def forward(self, x):
        return (4 * x).round() / 4


def test_bpda_through_a_stand_in_answers_as_the_victim_and_slopes_as_the_stand_in():
    bare = HalfSpace().eval()
    victim = Defended(Rounds(), bare).eval()
    logits, gradient = seen(BPDA("approximation"), victim)
    torch.testing.assert_close(logits, bare(torch.full_like(X, 0.5)).detach())
    torch.testing.assert_close(gradient, bare.w.detach().expand(3, 1, 4, 4))


def test_a_view_suits_what_the_purifier_declares():
    views = (Oblivious(), Adaptive(), BPDA(), BPDA("approximation"), EOT(3))
    assert all(Transferred().applies_to(p) for p in (torch.nn.Identity(), Halve(), Noise()))
    suited = {
        torch.nn.Identity(): ["adaptive"],
        Halve(): ["oblivious", "adaptive", "bpda"],
        Rounds(): ["oblivious", "adaptive", "bpda", "bpda(approximation)"],
        Noise(): ["oblivious", "adaptive", "bpda", "eot(3)"],
    }
    for purifier, expected in suited.items():
        assert [str(view) for view in views if view.applies_to(purifier)] == expected


def test_eot_averages_over_draws_that_are_not_the_deployed_one():
    victim = Defended(Noise(), HalfSpace()).eval()
    logits, _ = seen(EOT(2), victim)
    draws = [victim.classifier(victim.purifier(X, draw=k)).detach() for k in range(3)]
    torch.testing.assert_close(logits, (draws[1] + draws[2]) / 2)
    assert not torch.allclose(draws[0], draws[1])
    torch.testing.assert_close(victim(X).detach(), draws[0])


def test_views_are_named_in_results():
    names = [str(v) for v in (Oblivious(), Adaptive(), BPDA(), EOT(20))]
    assert names == ["oblivious", "adaptive", "bpda", "eot(20)"]


def test_eot_needs_a_draw():
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        EOT(0)
