"""Sources are tried in turn, and only on what is still standing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from analytic import HalfSpace
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.threat import Linf
from spearshield.training.transfer_attack import Transfer

BUDGET = Linf(0.1)


class Mirrored(HalfSpace):
    """Its gradient points the wrong way for the half-space itself."""

    def margin(self, x):
        return -super().margin(x)


class Counting(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.batches = model, []

    def forward(self, x):
        self.batches.append(len(x))
        return self.model(x)


def test_images_of_a_source_fool_the_victim_that_shares_its_boundary():
    victim = HalfSpace()
    x, y = victim.images(4, BUDGET, 0.05)
    model = Counting(lambda x: victim(x).detach())  # a victim that cannot be differentiated
    x_adv = Transfer(BUDGET, (Mirrored(), HalfSpace()))(model, x, y)
    assert (victim(x_adv).argmax(1) != y).all()
    assert model.batches == [4, 4]  # one query a source: the first one fooled nobody
    assert BUDGET.contains(x_adv, x).all()


def test_an_image_that_one_source_broke_is_not_handed_to_the_next():
    source = Counting(HalfSpace())
    victim = HalfSpace()
    x, y = victim.images(4, BUDGET, 0.05)
    Transfer(BUDGET, (HalfSpace(), source), FGSM(BUDGET))(victim, x, y)
    assert source.batches == []


def test_its_default_attack_takes_every_step():
    """An image just over the source's boundary transfers less."""
    victim = HalfSpace()
    x, y = victim.images(2, BUDGET, 0.05)
    x_adv = Transfer(BUDGET, (HalfSpace(),))(victim, x, y)
    torch.testing.assert_close(BUDGET.distance(x_adv, x), torch.full((2,), 0.1))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sources": ()}, "at least one source"),
        ({"sources": (HalfSpace(),), "attack": PGD(Linf(0.2))}, "Linf"),
    ],
)
def test_what_cannot_work_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Transfer(BUDGET, **arguments)
