"""Views: their logits and gradients, on purifiers whose gradient is known."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.method import Defended, RandomPurifier
from spearshield.rng import Rng
from spearshield.views import BPDA, EOT, Adaptive, Oblivious, Transferred


class Halve(torch.nn.Module):
    """Halves the pixels, so a gradient through it is half of the gradient without it."""

    def forward(self, x):
        return x / 2


class Noise(RandomPurifier):
    def purify(self, x, rng):
        return x + rng.normal(x.shape[1:])


X = torch.full((3, 1, 4, 4), 0.6)


def logits_and_gradient(view, victim):
    """The logits of the view, and the gradient of the difference of its two classes."""
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
        actual = logits_and_gradient(view, victim)
        torch.testing.assert_close(actual[0], logits.detach(), msg=str(view))
        torch.testing.assert_close(actual[1], gradient, msg=str(view))


def test_bpda_has_exactly_the_logits_of_the_victim():
    victim = Defended(Halve(), HalfSpace()).eval()
    x = Rng.of_batch(0, 64).uniform((1, 4, 4))
    assert torch.equal(BPDA()(victim)(x), victim(x))


class Rounds(torch.nn.Module):
    """Rounds to quarters, with a differentiable approximation."""

    def __init__(self):
        super().__init__()
        self.differentiable_approximation = Halve()

    def forward(self, x):
        return (4 * x).round() / 4


def test_bpda_has_the_logits_of_the_victim_and_the_gradient_of_the_approximation():
    bare = HalfSpace().eval()
    victim = Defended(Rounds(), bare).eval()
    logits, gradient = logits_and_gradient(BPDA("approximation"), victim)
    torch.testing.assert_close(logits, bare(torch.full_like(X, 0.5)).detach())
    torch.testing.assert_close(gradient, bare.w.detach().expand(3, 1, 4, 4))


def test_the_interface_of_the_purifier_decides_which_views_apply():
    views = (Oblivious(), Adaptive(), BPDA(), BPDA("approximation"), EOT(3))
    bare = HalfSpace()
    every = [Defended(purifier, bare) for purifier in (torch.nn.Identity(), Halve(), Noise())]
    assert all(Transferred().applies_to(victim) for victim in every)
    applicable = {
        torch.nn.Identity(): ["adaptive"],
        Halve(): ["oblivious", "adaptive", "bpda"],
        Rounds(): ["oblivious", "adaptive", "bpda", "bpda(approximation)"],
        Noise(): ["oblivious", "adaptive", "bpda", "eot(3)"],
    }
    for purifier, expected in applicable.items():
        victim = Defended(purifier, bare)
        assert [str(view) for view in views if view.applies_to(victim)] == expected


def test_eot_averages_over_draws_other_than_the_deployed_one():
    victim = Defended(Noise(), HalfSpace()).eval()
    logits, _ = logits_and_gradient(EOT(2), victim)
    draws = [victim.classifier(victim.purifier(X, draw=k)).detach() for k in range(3)]
    torch.testing.assert_close(logits, (draws[1] + draws[2]) / 2)
    assert not torch.allclose(draws[0], draws[1])
    torch.testing.assert_close(victim(X).detach(), draws[0])


class RoundedNoise(RandomPurifier):
    """Random, and without a useful gradient."""

    def __init__(self, seed=0):
        super().__init__(seed)
        self.differentiable_approximation = Halve()

    def purify(self, x, rng):
        return (4 * (x + rng.uniform(x.shape[1:]))).round() / 4


def bpda_of_the_deployed_draw(view, victim):
    """BPDA that ignores the number of the draw."""
    return lambda x, draw=0: CALL(view, victim)(x)


CALL = BPDA.__call__


@fails_under("the deployed draw in place of others", (BPDA, "__call__", bpda_of_the_deployed_draw))
@pytest.mark.parametrize(("of", "slope"), [(BPDA(), 1), (BPDA("approximation"), 0.5)])
def test_eot_of_bpda_averages_over_draws_and_has_the_gradient_of_the_replacement(of, slope):
    bare = HalfSpace().eval()
    victim = Defended(RoundedNoise(), bare).eval()
    logits, gradient = logits_and_gradient(EOT(2, of), victim)
    draws = [bare(victim.purifier(X, draw=k)).detach() for k in range(3)]
    torch.testing.assert_close(logits, (draws[1] + draws[2]) / 2)
    assert not torch.allclose(draws[0], draws[1])
    torch.testing.assert_close(gradient, slope * 2 * bare.w.detach().expand(3, 1, 4, 4))
    assert not logits_and_gradient(EOT(2), victim)[1].any()
    assert EOT(2, of).applies_to(victim)
    assert not EOT(2, of).applies_to(Defended(Halve(), bare))


def test_views_are_named_in_results():
    views = (Oblivious(), Adaptive(), BPDA(), EOT(20), EOT(5, BPDA("approximation")))
    names = [str(v) for v in views]
    assert names == ["oblivious", "adaptive", "bpda", "eot(20)", "eot(5, bpda(approximation))"]


def test_arguments_out_of_range_raise(monkeypatch):
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        EOT(0)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    with pytest.raises(ValueError, match="through must be one of identity, approximation"):
        BPDA("purifier")
