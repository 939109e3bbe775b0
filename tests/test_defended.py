"""Purifiers in front of a victim that is itself defended: every ability is asked of the chain."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fixtures.models import Apply, Fence, HalfSpace, Noise
from mutations import fails_under
from spearshield import views
from spearshield.attacks.latent_search import LatentSearch
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.judging.evaluation import EvaluationSettings, evaluate
from spearshield.method import Defended, Outcome, Purifiers
from spearshield.threat import L2, Linf
from spearshield.views import BPDA, EOT, DetectorAware, InRange, Oblivious

X = torch.full((3, 1, 4, 4), 0.6)


def halve() -> nn.Module:
    return Apply(lambda x: x / 2)


def behind(*purifiers: nn.Module) -> Defended:
    """The purifiers in order, each in front of a victim that is itself defended."""
    victim: nn.Module = HalfSpace()
    for purifier in reversed(purifiers):
        victim = Defended(purifier, victim)
    return victim.eval()


def in_sequence(*purifiers: nn.Module) -> Defended:
    """The purifiers in order, as one ``nn.Sequential``."""
    return Defended(nn.Sequential(*purifiers), HalfSpace()).eval()


both = pytest.mark.parametrize("chained", [behind, in_sequence])


def examples() -> Examples:
    pixels = torch.full((6, 1, 4, 4), 140, dtype=torch.uint8)
    return Examples.of(pixels, torch.ones(6, dtype=torch.long), ("below", "above"))


@both
def test_a_chain_has_the_purifiers_in_order_without_the_identity(chained):
    noise, half = Noise(0.1), halve()
    victim = chained(nn.Identity(), half, noise)
    assert [*victim.purifiers] == [half, noise]
    assert isinstance(victim.innermost, HalfSpace)
    torch.testing.assert_close(victim.purifiers(X), noise(X / 2))
    torch.testing.assert_close(victim(X), victim.innermost(noise(X / 2)))
    assert len(chained(nn.Identity()).purifiers) == 0


@fails_under(
    "only the purifier in front is asked",
    (Purifiers, "are_random", property(lambda self: isinstance(self.parts[0], Noise))),
    chained=behind,
)
@both
def test_a_random_purifier_anywhere_is_judged_over_draws_and_averaged(chained):
    noise = Noise(0.3)
    victim = chained(halve(), noise)
    assert EOT(3).applies_to(victim)
    draws = torch.stack([victim.innermost(noise(X / 2, draw=k)) for k in (1, 2, 3)])
    torch.testing.assert_close(EOT(3)(victim)(X), draws.mean(0))
    torch.testing.assert_close(victim(X, draw=2), draws[1])
    assert torch.equal(victim(X, draw=0), victim(X))
    score = evaluate(victim, PGD(Linf(0.1), steps=2), examples(), EOT(2))
    assert score.clean_draws.shape == (6, EvaluationSettings.draws)
    assert score.repeated is not None and score.forwards >= 2 * 6


@both
def test_two_random_purifiers_draw_together(chained):
    first, second = Noise(0.2), Noise(0.3)
    victim = chained(first, second)
    draws = [victim.innermost(second(first(X, draw=k), draw=k)) for k in (1, 2)]
    torch.testing.assert_close(EOT(2)(victim)(X), torch.stack(draws).mean(0))


@fails_under(
    "detector behind the first purifier ignored",
    (Purifiers, "detect", property(lambda self: isinstance(self.parts[0], Fence))),
    chained=behind,
)
@both
def test_a_detector_anywhere_rejects_and_scores_the_output_of_the_purifier_before(chained):
    victim = chained(halve(), Fence(0.25))
    torch.testing.assert_close(victim.detection_score(X), torch.full((3,), 0.3 - 0.25))
    assert DetectorAware().applies_to(victim)
    score = evaluate(victim, PGD(Linf(0.01), steps=1), examples())
    assert score.rejected == (1.0, 1.0) and score.auc is not None  # 140 / 255 / 2 is above 0.25


@both
def test_one_detector_is_enough_to_reject(chained):
    scores = {limits: chained(*map(Fence, limits)).detection_score(X) for limits in
              [(0.5, 0.9), (0.9, 0.5), (0.9, 0.8)]}  # fmt: skip
    for limits, score in scores.items():
        torch.testing.assert_close(score, torch.full((3,), 0.6 - min(limits)))
    assert chained(halve()).detection_score(X).tolist() == [-math.inf] * 3


@both
def test_a_detector_behind_noise_rejects_draw_by_draw(chained):
    victim = chained(Noise(0.2), Fence(140 / 255))
    assert victim.purifiers.detect_at_random
    assert not chained(Fence(0.5), Noise(0.2)).purifiers.detect_at_random
    score = evaluate(victim, PGD(Linf(0.01), steps=1), examples())
    rejected = (score.clean_draws == -1).double().mean()
    assert 0.2 < rejected < 0.8  # the noise lifts the last pixel over the limit in half the draws


@fails_under(
    "gradient of the purifiers kept",
    (views, "_replaced", lambda purifier, x, smooth, draw: purifier(x)),
    chained=behind,
)
@both
def test_bpda_replaces_every_purifier(chained):
    victim = chained(Apply(torch.round), halve(), Apply(torch.round))
    x = X.clone().requires_grad_()
    logits = BPDA()(victim)(x)
    assert torch.equal(logits, victim(X))
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), x)
    torch.testing.assert_close(gradient, 2 * victim.innermost.w.detach().expand(3, 1, 4, 4))


def test_a_sequence_of_layers_is_one_purifier():
    layers = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 1, 3, 1, 1))
    victim = Defended(layers, HalfSpace()).eval()
    assert [*victim.purifiers] == [layers]
    assert torch.equal(BPDA()(victim)(X), victim(X))
    noisy = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), Noise(0.1), nn.Conv2d(4, 1, 3, 1, 1))
    victim = Defended(noisy, HalfSpace()).eval()
    assert victim.purifiers.are_random
    assert torch.equal(BPDA()(victim)(X), victim(X))
    assert not torch.equal(victim(X, draw=1), victim(X))


@both
def test_an_approximation_replaces_its_own_purifier_only(chained):
    rounds = Apply(torch.round)
    rounds.differentiable_approximation = Apply(lambda x: 3 * x)
    victim = chained(halve(), rounds)
    view = BPDA("approximation")
    assert view.applies_to(victim) and not view.applies_to(chained(halve()))
    x = X.clone().requires_grad_()
    logits = view(victim)(x)
    assert torch.equal(logits, victim(X))
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), x)
    torch.testing.assert_close(gradient, 3 * victim.innermost.w.detach().expand(3, 1, 4, 4))


class Nearest(nn.Module):
    """A generator of images of one grey level, which is the latent."""

    def generate(self, z):
        return z[:, None, None, None].expand(-1, 1, 4, 4)

    def search(self, x, rng):
        z = x.flatten(1).mean(1)
        return z, (x - self.generate(z)).flatten(1).norm(dim=1)

    def forward(self, x):
        return self.generate(self.search(x, None)[0])


@both
def test_a_generator_behind_another_purifier_is_searched(chained):
    victim = chained(Apply(lambda x: x), Nearest(), Apply(lambda x: x.clamp(0, 1)))
    view = InRange()
    assert view.applies_to(victim) and not view.applies_to(chained(halve()))
    grey = view(victim)
    assert isinstance(grey.purifier, Nearest)
    torch.testing.assert_close(grey(X), victim(X))
    x, y = torch.full((2, 1, 4, 4), 0.55), torch.ones(2, dtype=torch.long)
    x_adv = LatentSearch(L2(0.5), steps=60)(grey, x, y)
    assert (victim(x_adv).argmax(1) == 0).all()


def test_without_a_purifier_a_defended_classifier_is_the_victim():
    inner = behind(halve())
    victim = Outcome(inner).defended
    assert victim is inner and Oblivious()(victim) is inner.classifier
