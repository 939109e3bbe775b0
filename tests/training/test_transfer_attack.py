"""Transfer attacks: sources are attacked in turn, on images that are not misclassified yet."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fixtures.models import Apply, HalfSpace
from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.threat import Linf
from spearshield.training import transfer_attack
from spearshield.training.transfer_attack import SourceError, Transfer

BUDGET = Linf(0.1)


class Mirrored(HalfSpace):
    """Its gradient is the opposite of the half-space's."""

    def margin(self, x):
        return -super().margin(x)


class Counting(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.batches = model, []

    def forward(self, x):
        self.batches.append(len(x))
        return self.model(x)


def test_images_of_a_source_transfer_to_an_equal_victim():
    victim = HalfSpace()
    x, y = victim.images(4, BUDGET, 0.05)
    model = Counting(lambda x: victim(x).detach())  # a victim that cannot be differentiated
    x_adv = Transfer(BUDGET, (Mirrored(), HalfSpace()))(model, x, y)
    assert (victim(x_adv).argmax(1) != y).all()
    assert model.batches == [4, 4]  # one query per source; the first source fools no image
    assert BUDGET.contains(x_adv, x).all()


@pytest.mark.parametrize(("names", "name"), [((), "Apply"), (("cut",), "cut")])
def test_a_source_that_cuts_the_graph_is_named(names, name):
    x, y = HalfSpace().images(4, BUDGET, 0.05)
    cut = Apply(lambda x: HalfSpace()(x).detach())
    with pytest.raises(SourceError, match=f"^{name}, a source .*; name another model"):
        Transfer(BUDGET, (cut,), names=names)(HalfSpace(), x, y)


@fails_under(
    "misclassified image attacked from the next source",
    (transfer_attack, "misclassified", lambda model, x, y: torch.zeros(len(y), dtype=torch.bool)),
)
def test_a_misclassified_image_is_not_attacked_again():
    source = Counting(HalfSpace())
    victim = HalfSpace()
    x, y = victim.images(4, BUDGET, 0.05)
    Transfer(BUDGET, (HalfSpace(), source), FGSM(BUDGET))(victim, x, y)
    assert source.batches == []


def test_the_default_attack_does_not_stop_early():
    """The perturbation has the full size."""
    victim = HalfSpace()
    x, y = victim.images(2, BUDGET, 0.05)
    x_adv = Transfer(BUDGET, (HalfSpace(),))(victim, x, y)
    torch.testing.assert_close(BUDGET.distance(x_adv, x), torch.full((2,), 0.1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sources": ()}, "at least one source"),
        ({"sources": (HalfSpace(),), "attack": PGD(Linf(0.2))}, "Linf"),
    ],
)
def test_settings_that_do_not_fit_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        Transfer(BUDGET, **arguments)
