"""Our attacks compared with Foolbox, with equal parameters, on the same model and images."""

from __future__ import annotations

import warnings
from unittest import mock

import pytest
import torch

from spearshield.adversary import misclassified
from spearshield.attacks.bim import BIM
from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.attacks.deepfool import DeepFool
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.mi_fgsm import MIFGSM
from spearshield.attacks.pgd import PGD
from spearshield.threat import L2, Linf

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*scipy.ndimage.filters", DeprecationWarning)
    foolbox = pytest.importorskip("foolbox", reason="the oracle foolbox is not installed")
    from foolbox import attacks as theirs

both = pytest.mark.parametrize("victim", ["digits", "mnist"], indirect=True)
mnist_slowly = pytest.mark.parametrize(
    "victim", ["digits", pytest.param("mnist", marks=pytest.mark.slow)], indirect=True
)
norms = pytest.mark.parametrize("norm", [Linf, L2])


def run(victim, attack, threat):
    """The adversarial images of an attack of Foolbox, within ``threat``."""
    model = foolbox.PyTorchModel(victim.model, bounds=(0, 1), device="cpu")
    _, x_adv, _ = attack(model, victim.x, victim.y, epsilons=threat.eps)
    return x_adv


@both
@norms
def test_fgsm_image_by_image(victim, norm, agree):
    threat = victim.threat(norm)
    ours = FGSM(threat)(victim.model, victim.x, victim.y)
    kind = {Linf: theirs.LinfFastGradientAttack, L2: theirs.L2FastGradientAttack}[norm]
    other = run(victim, kind(random_start=False), threat)
    # The gradient of a few pixels is only rounding error.
    assert ((ours - other).abs() > 1e-5).float().mean() < 1e-4
    assert torch.equal(
        misclassified(victim.model, ours, victim.y), misclassified(victim.model, other, victim.y)
    )
    agree(victim, ours, other)


@mnist_slowly
@norms
def test_bim(victim, norm, agree):
    threat = victim.threat(norm)
    ours = BIM(threat, steps=10, step_size=threat.eps / 5)(victim.model, victim.x, victim.y)
    kind = {Linf: theirs.LinfBasicIterativeAttack, L2: theirs.L2BasicIterativeAttack}[norm]
    agree(victim, ours, run(victim, kind(steps=10, abs_stepsize=threat.eps / 5), threat))


@both
@norms
def test_pgd(victim, norm, agree):
    threat = victim.threat(norm)
    attack = PGD(threat, steps=10, step_size=threat.eps / 5, early_stop=False)
    kind = {Linf: theirs.LinfPGD, L2: theirs.L2PGD}[norm]
    with mock.patch.object(kind, "get_random_start", lambda self, x, eps: x + victim.start(threat)):
        other = run(victim, kind(steps=10, abs_stepsize=threat.eps / 5), threat)
    agree(victim, attack(victim.model, victim.x, victim.y), other)


@mnist_slowly
def test_mi_fgsm_l2(victim, agree):
    # Foolbox divides each gradient by its L2 norm, not by its L1 norm. Its L-inf version
    # accumulates signs and is another attack.
    threat = victim.l2
    ours = MIFGSM(threat, steps=10, step_size=threat.eps / 10)(victim.model, victim.x, victim.y)
    kind = theirs.L2MomentumIterativeFastGradientMethod
    agree(victim, ours, run(victim, kind(steps=10, abs_stepsize=threat.eps / 10), threat))


@mnist_slowly
def test_carlini_wagner(victim, agree):
    settings = {"steps": 40, "initial_const": 1.0, "binary_search_steps": 3, "stepsize": 0.3}
    attack = CarliniWagner(victim.l2, steps=40, lr=0.3, searches=3, initial_c=1.0)
    other = run(victim, theirs.L2CarliniWagnerAttack(**settings, abort_early=False), victim.l2)
    agree(victim, attack(victim.model, victim.x, victim.y), other)


@mnist_slowly
@norms
def test_deepfool(victim, norm, agree):
    threat = victim.threat(norm)
    ours = DeepFool(threat, steps=10)(victim.model, victim.x, victim.y)
    kind = {Linf: theirs.LinfDeepFoolAttack, L2: theirs.L2DeepFoolAttack}[norm]
    agree(victim, ours, run(victim, kind(steps=10, overshoot=0.02), threat))
