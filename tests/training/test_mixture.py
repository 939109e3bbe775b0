"""Mixtures of attacks: each image has one of them, and all occur."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import HalfSpace
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.rng import Rng
from spearshield.threat import Linf
from spearshield.training.classifier_training import scaled
from spearshield.training.mixture import Mixture

BALL = Linf(0.1)
WEAK = PGD(BALL, steps=1, step_size=0.01, random_start=False, early_stop=False)


def test_every_attack_occurs_and_an_image_has_the_same_in_every_batch():
    model, x = HalfSpace().eval(), torch.full((60, 1, 4, 4), 0.5)
    y = torch.zeros(60, dtype=torch.long)
    mixture, rng = Mixture(BALL, (FGSM(BALL), WEAK)), Rng.of_batch(0, 60)
    x_adv = mixture(model, x, y, rng=rng)
    sizes = (x_adv - x).abs().amax((1, 2, 3))
    strong = (sizes > 0.05).float().mean()
    assert 0.25 < strong < 0.75 and float(sizes.min()) == pytest.approx(0.01, abs=1e-6)
    torch.testing.assert_close(mixture(model, x[7:9], y[7:9], rng=rng[7:9]), x_adv[7:9])


def test_a_warm_up_scales_every_attack():
    half = scaled(Mixture(BALL, (FGSM(BALL), WEAK)), 0.5)
    assert half.threat == Linf(0.05)
    assert half.attacks == (
        FGSM(Linf(0.05)),
        PGD(Linf(0.05), steps=1, step_size=0.005, random_start=False, early_stop=False),
    )


def test_an_attack_of_another_threat_model_raises():
    with pytest.raises(ValueError, match=r"must have the threat model Linf 0\.1, got Linf 0\.2"):
        Mixture(BALL, (FGSM(Linf(0.2)),))
    with pytest.raises(ValueError, match="attacks must have at least one attack, got none"):
        Mixture(BALL, ())
