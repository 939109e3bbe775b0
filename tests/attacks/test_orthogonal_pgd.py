"""Orthogonal PGD: evades a detector that rejects the results of PGD."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import Fence, HalfSpace, Watched
from mutations import fails_under
from spearshield.adversary import misclassified
from spearshield.attacks import orthogonal_pgd
from spearshield.attacks.orthogonal_pgd import OrthogonalPGD
from spearshield.attacks.pgd import PGD
from spearshield.method import Defended
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

N = 64
X = torch.tensor([0.5, 0.3]).view(1, 1, 1, 2).repeat(N, 1, 1, 1)
Y = torch.zeros(N, dtype=torch.long)
OPEN, SHUT = 0.36, 0.3
"""Limits of the last pixel. The margin of pixels (a, b) is -a + 1.6 b - 0.3. Within 0.3 of
(0.5, 0.3), a can fall to 0.2, so b must exceed 0.3125."""


def fenced(limit):
    return Defended(Fence(limit), HalfSpace((1, 1, 2))).eval()


def evaded(victim, attack, x=X, y=Y):
    """True for each image that is misclassified and accepted."""
    x_adv = attack(victim, x, y)
    assert attack.threat.contains(x_adv, x).all()
    with torch.no_grad():
        return misclassified(victim, x_adv, y) & (victim.detection_score(x_adv) <= 0)


@fails_under(
    "attack that ignores the detection score",
    (orthogonal_pgd, "_detection_score", lambda model, x: x.new_full((len(x),), -1.0)),
)
def test_finds_the_gap_that_pgd_does_not():
    victim = fenced(OPEN)
    assert evaded(victim, OrthogonalPGD(Linf(0.3))).all()
    assert evaded(victim, PGD(Linf(0.3), random_start=False)).sum() == 0


def test_breaks_nothing_where_there_is_no_gap():
    assert evaded(fenced(SHUT), OrthogonalPGD(Linf(0.3))).sum() == 0


@pytest.mark.parametrize("first", [0, 1], ids=["whole", "orthogonal"])
def test_both_kinds_of_steps_find_a_gap(first):
    attack, rng = OrthogonalPGD(Linf(0.3), restarts=1), Rng.of_batch(0, N)
    x_adv = attack._run(fenced(OPEN), X, Y, rng, orthogonal=first == 1)
    victim = fenced(OPEN)
    with torch.no_grad():
        found = misclassified(victim, x_adv, Y) & (victim.detection_score(x_adv) <= 0)
    # Orthogonal steps succeed only from starts in the gap of the last pixel, 0.05 of 0.6 wide.
    assert found.float().mean() > (0.2 if first else 0.4)


@fails_under(
    "gradients that are not made orthogonal",
    (orthogonal_pgd, "_orthogonal", lambda gradient, other: gradient),
)
def test_an_orthogonal_step_does_not_change_the_detection_score():
    # Only the first pixel may move, because the detection score depends on the second.
    attack = OrthogonalPGD(L2(0.1), steps=1, step_size=0.05)
    start = Rng.of_batch(0, N)
    x_adv = attack._run(fenced(OPEN), X, Y, start, orthogonal=True)
    before = L2(0.1).project(X + L2(0.1).sample_perturbation(X, start), X)
    moved = (x_adv - before).flatten(1)
    inside = L2(0.1).distance(x_adv, X) < 0.0999
    assert inside.any()
    assert (moved[inside, 1].abs() < 1e-6).all()
    assert (moved[inside, 0] + 0.05).abs().max() < 1e-6


def test_a_model_without_a_detector_is_attacked_by_the_margin_loss():
    model = HalfSpace()
    x, y = model.images(8, Linf(0.1), 0.09)
    assert misclassified(model, OrthogonalPGD(Linf(0.1))(model, x, y), y).all()


def test_a_detector_without_a_gradient_does_not_stop_the_attack():
    class NoGradient(Fence):
        def detection_score(self, x):
            return super().detection_score(x.detach())

    victim = Defended(NoGradient(2.0), HalfSpace((1, 1, 2))).eval()
    assert evaded(victim, OrthogonalPGD(Linf(0.3))).all()


def test_an_image_misclassified_and_accepted_from_the_start_stops_at_once():
    model = HalfSpace()
    x, y = model.images(2, Linf(0.1), 0.05)
    watched = Watched(model)
    x_adv = OrthogonalPGD(Linf(0.1))(watched, x, 1 - y)
    assert torch.equal(x_adv, x)
    assert len(watched.seen) == 1


@pytest.mark.parametrize("bad", [{"steps": 0}, {"restarts": 0}, {"step_size": 0.0}], ids=str)
def test_arguments_out_of_range_raise(bad):
    with pytest.raises(ValueError, match="got"):
        OrthogonalPGD(Linf(0.3), **bad)
