"""Attacks that know the fault of a flawed defence reach the robust accuracy that is stated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spearshield.attacks.apgd import APGD
from spearshield.method import Defended, Detects
from spearshield.selftest import IMAGES
from spearshield.selftest.defences import DEFENCES
from spearshield.selftest.honest import Mean
from spearshield.selftest.layers import Layer, blur, straight_through
from spearshield.selftest.networks import THREAT, Networks
from spearshield.storage.images import quantize_towards

KNOWN = {flawed.name: flawed for flawed in DEFENCES if flawed.truth is not None}


class ClassDistances(nn.Module):
    """Minus the squared distance to the nearest training image of each class."""

    def __init__(self, networks):
        super().__init__()
        self.x, self.y = networks.train.images().flatten(1), networks.train.y

    def forward(self, x):
        distances = (x.flatten(1)[:, None] - self.x).square().sum(2)
        return -torch.stack([distances[:, self.y == k].amin(1) for k in range(10)], 1)


TWINS = {
    "detached purifier": lambda n: nn.Sequential(Layer(blur), n.plain),
    "rounding to 4 grey levels": lambda n: nn.Sequential(Layer(straight_through), n.plain),
    "straight-through rounding": lambda n: nn.Sequential(Layer(straight_through), n.plain),
    "denoiser and rounding": lambda n: nn.Sequential(Layer(blur), Layer(straight_through), n.plain),
    "hard votes": lambda n: Mean(*n.members),
    "nearest neighbour with a decoy slope": ClassDistances,
}
"""Differentiable twins; the twin of the other defences is the plain network."""


@pytest.fixture(scope="module")
def networks():
    return Networks(IMAGES)


@torch.no_grad()
def correct(victim, x, y):
    right = victim(x.clone()).argmax(1) == y
    if isinstance(victim, Defended) and isinstance(victim.purifier, Detects):
        right |= victim.detection_score(x) > 0
    return right


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_an_attack_that_knows_the_fault_reaches_the_stated_number(name, networks):
    x, y = networks.x, networks.y
    victim = KNOWN[name].build(networks).eval()
    twin = TWINS.get(name, lambda n: n.plain)(networks).eval()
    targeted = APGD(THREAT, "dlr", targets=9, steps=30)
    margin = APGD(THREAT, "margin", steps=50, restarts=2, early_stop=False)
    robust = correct(victim, x, y)
    for attack in (targeted, margin):
        x_adv = attack(twin, x, y)
        for images in (x_adv, quantize_towards(x_adv, x)):
            robust &= correct(victim, images, y)
    assert float(robust.float().mean()) == pytest.approx(KNOWN[name].truth, abs=0.03)
