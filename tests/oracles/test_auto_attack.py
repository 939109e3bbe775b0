"""AutoAttack and APGD compared with the public AutoAttack, on the same models and images."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from spearshield.adversary import misclassified
from spearshield.attacks.apgd import APGD
from spearshield.attacks.auto_attack import AutoAttack
from spearshield.threat import L2, Linf

pytest.importorskip("pyautoattack", reason="the oracle pyautoattack is not installed")
import pyautoattack
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

norms = pytest.mark.parametrize("norm", [Linf, L2])


@pytest.fixture(params=["digits"])
def victim(victim):
    """The first 200 correctly classified images; the public AutoAttack skips all others."""
    right = (~misclassified(victim.model, victim.x, victim.y)).nonzero().squeeze(1)[:200]
    return replace(victim, x=victim.x[right], y=victim.y[right])


def settings(threat):
    """Arguments of the public AutoAttack."""
    return {"norm": threat.norm, "eps": threat.eps, "seed": 0, "device": "cpu"}


def compare(request, victim, ours, theirs):
    """Asserts that the numbers of robust images, of 200, differ by at most one."""
    ours, theirs = (int((~misclassified(victim.model, x, victim.y)).sum()) for x in (ours, theirs))
    request.node.user_properties.append(("ours, theirs", [ours, theirs]))
    assert 10 < ours < 190  # otherwise any two attacks agree
    assert abs(ours - theirs) <= 1


@pytest.mark.parametrize(("loss", "theirs_loss"), [("cross_entropy", "ce"), ("dlr", "dlr")])
@norms
def test_apgd_from_the_same_start(request, victim, norm, loss, theirs_loss):
    threat, x, y = victim.threat(norm), victim.x, victim.y
    other = APGDAttack(
        victim.model, loss=theirs_loss, logger=logging.getLogger(), **settings(threat)
    )
    other.init_hyperparam(x)
    start = threat.project(x + victim.start(threat), x)
    *_, theirs = other.attack_single_run(x, y, x_init=start)
    compare(request, victim, APGD(threat, loss=loss)(victim.model, x, y), theirs)


@norms
def test_targeted_apgd(request, victim, norm):
    threat, x, y = victim.threat(norm), victim.x, victim.y
    other = APGDAttack_targeted(
        victim.model, n_target_classes=3, logger=logging.getLogger(), **settings(threat)
    )
    compare(request, victim, APGD(threat, targets=3)(victim.model, x, y), other.perturb(x, y))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["digits", "mnist"], indirect=True)
@norms
def test_the_standard_version(request, victim, norm):
    threat = victim.threat(norm)
    threat = replace(threat, eps=0.75 * threat.eps)  # eps was chosen for weaker attacks
    other = pyautoattack.AutoAttack(victim.model, **settings(threat))
    theirs, _ = other.run_standard_evaluation(victim.x, victim.y)
    ours = AutoAttack(threat)(victim.model, victim.x, victim.y)
    assert threat.contains(ours, victim.x).all()
    compare(request, victim, ours, theirs)
