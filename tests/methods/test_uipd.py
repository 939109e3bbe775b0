"""UIPD: one perturbation that raises the clean margin, and the attacker who subtracts it."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import HalfSpace
from spearshield.attacks.fgsm import FGSM
from spearshield.method import Task
from spearshield.methods.uipd import UIPD
from spearshield.rng import Rng, ambient
from spearshield.threat import L2, Linf


def trained(steps=30, **settings):
    with ambient(0):
        model = HalfSpace().eval()
        made = UIPD(**{"width": 4, "latent": 3, "lr": 0.05, **settings}).learner(
            Task(model, model, (1, 4, 4), 2)
        )
    x = 0.3 + 0.4 * torch.rand(32, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.ones(32, dtype=torch.long)
    first = last = made.step(x, y, rng=Rng.of_batch(0, 32))["cross_entropy"]
    for _ in range(steps):
        last = made.step(x, y, rng=Rng.of_batch(0, 32))["cross_entropy"]
    return made, x, first, last


@pytest.mark.parametrize("source", ["generator", "pixels"])
def test_the_perturbation_lowers_the_loss_of_clean_images(source):
    made, x, first, last = trained(source=source)
    assert last < 0.8 * first
    purifier = made.outcome().purifier
    moved = purifier(x) - x
    torch.testing.assert_close(moved[0], moved[-1])  # the same for all images


@pytest.mark.parametrize("threat", [Linf(0.05), L2(0.1)])
def test_the_perturbation_is_inside_its_threat_model(threat):
    made, _, _, _ = trained(threat=threat, lr=0.5)
    u = made.outcome().purifier.u
    assert 0.5 * threat.eps < float(threat.size(u)) <= threat.eps * (1 + 1e-5)


def test_an_attacker_who_subtracts_it_meets_the_bare_classifier():
    made, x, _, _ = trained(threat=Linf(0.1))
    defended = made.outcome().defended
    model, u = made.task.classifier, made.outcome().purifier.u
    x_adv = FGSM(Linf(0.1))(model, x, model(x).argmax(1))
    torch.testing.assert_close(defended(x_adv - u), model(x_adv))


def test_the_latent_does_not_change():
    made, x, _, _ = trained(steps=0)
    before = made.G.z.clone()
    made.step(x, torch.ones(32, dtype=torch.long), rng=Rng.of_batch(0, 32))
    assert torch.equal(made.G.z, before)
    assert "G.z" in made.state_dict()


@pytest.mark.parametrize("setting", [{"width": 0}, {"latent": 0}, {"lr": -1.0}])
def test_settings_out_of_range_raise(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        UIPD(**setting)
