"""Our attacks compared with the Adversarial Robustness Toolbox, with equal parameters."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from spearshield.adversary import misclassified
from spearshield.attacks.bim import BIM
from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.attacks.deepfool import DeepFool
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.mi_fgsm import MIFGSM
from spearshield.attacks.pgd import PGD
from spearshield.threat import L2, Linf

pytest.importorskip("art", reason="the oracle adversarial-robustness-toolbox is not installed")
from art.attacks import evasion
from art.estimators.classification import PyTorchClassifier

both = pytest.mark.parametrize("victim", ["digits", "mnist"], indirect=True)
mnist_slowly = pytest.mark.parametrize(
    "victim", ["digits", pytest.param("mnist", marks=pytest.mark.slow)], indirect=True
)
norms = pytest.mark.parametrize("norm", [Linf, L2])
NORM = {Linf: np.inf, L2: 2}


def run(victim, kind, **settings):
    """The adversarial images of an attack of ART."""
    model = PyTorchClassifier(
        victim.model,
        nn.CrossEntropyLoss(),
        input_shape=tuple(victim.x.shape[1:]),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )
    attack = kind(model, batch_size=len(victim.x), **settings)
    return torch.from_numpy(attack.generate(victim.x.numpy(), victim.y.numpy()))


@both
@norms
def test_fgsm_image_by_image(victim, norm, agree):
    threat = victim.threat(norm)
    ours = FGSM(threat)(victim.model, victim.x, victim.y)
    other = run(victim, evasion.FastGradientMethod, norm=NORM[norm], eps=threat.eps)
    # The gradient of a few pixels is only rounding error.
    assert ((ours - other).abs() > 1e-5).float().mean() < 1e-4
    assert torch.equal(
        misclassified(victim.model, ours, victim.y), misclassified(victim.model, other, victim.y)
    )
    agree(victim, ours, other)


@mnist_slowly
def test_bim(victim, agree):
    threat = victim.linf
    ours = BIM(threat, steps=10, step_size=threat.eps / 5)(victim.model, victim.x, victim.y)
    settings = {"eps": threat.eps, "eps_step": threat.eps / 5, "max_iter": 10}
    agree(victim, ours, run(victim, evasion.BasicIterativeMethod, verbose=False, **settings))


@both
@norms
def test_pgd(victim, norm, agree):
    threat = victim.threat(norm)
    attack = PGD(threat, steps=10, step_size=threat.eps / 5, early_stop=False)
    kind = evasion.ProjectedGradientDescentPyTorch
    start = victim.start(threat).numpy()
    with mock.patch(f"{kind.__module__}.random_sphere", lambda *args: start):
        other = run(
            victim,
            kind,
            norm=NORM[norm],
            eps=threat.eps,
            eps_step=threat.eps / 5,
            max_iter=10,
            num_random_init=1,
            verbose=False,
        )
    agree(victim, attack(victim.model, victim.x, victim.y), other)


@mnist_slowly
@norms
def test_mi_fgsm(victim, norm, agree):
    threat = victim.threat(norm)
    ours = MIFGSM(threat, steps=10, step_size=threat.eps / 10)(victim.model, victim.x, victim.y)
    other = run(
        victim,
        evasion.MomentumIterativeMethod,
        norm=NORM[norm],
        eps=threat.eps,
        eps_step=threat.eps / 10,
        max_iter=10,
        verbose=False,
    )
    agree(victim, ours, other)


@mnist_slowly
def test_deepfool(victim, agree):
    x, y, threat = victim.x, victim.y, victim.l2
    ours = DeepFool(threat, steps=10)(victim.model, x, y)
    other = run(victim, evasion.DeepFool, max_iter=10, epsilon=0.02, verbose=False)
    # ART moves away from the prediction, ours from the label; exclude misclassified images.
    wrong = misclassified(victim.model, x, y)[:, None, None, None]
    agree(victim, ours, torch.where(wrong, x, threat.project(other, x)))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["digits"], indirect=True)
def test_carlini_wagner_is_no_weaker(victim):
    # ART uses a line search in place of Adam, so the attacks differ under equal parameters.
    threat = victim.l2
    ours = CarliniWagner(threat, steps=40, lr=0.3, searches=3, initial_c=1.0)
    other = run(
        victim,
        evasion.CarliniL2Method,
        max_iter=10,
        learning_rate=0.3,
        initial_const=1.0,
        binary_search_steps=3,
        verbose=False,
    )
    model, x, y = victim.model, victim.x, victim.y
    weaker = misclassified(model, threat.project(other, x), y) & ~misclassified(
        model, ours(model, x, y), y
    )
    assert weaker.float().mean() <= 0.015
