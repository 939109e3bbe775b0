"""IP-GAN: the losses on numbers worked by hand, the view of its attack, and joint training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.losses import features
from spearshield.method import Task
from spearshield.methods import ip_gan
from spearshield.methods.ip_gan import IPGAN, IPGANLearner
from spearshield.nets.inverse_perturbation import Fusion
from spearshield.rng import Rng, ambient
from spearshield.threat import Linf
from spearshield.training.precomputed_attack import PrecomputedAttack

X = torch.full((3, 1, 4, 4), 0.5)
Y = torch.tensor([0, 1, 0])


class Constant(nn.Module):
    """A constant output, for every input."""

    def __init__(self, value, shape) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.shape = shape

    def forward(self, x):
        return self.value.expand(len(x), *self.shape)


class Brightness(nn.Module):
    """Two classes: dark and bright images. Its penultimate features are the pixels."""

    def __init__(self, slope=0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 2)
        with torch.no_grad():
            self.linear.weight[0], self.linear.weight[1] = -slope / 16, slope / 16
            self.linear.bias[0], self.linear.bias[1] = slope / 2, -slope / 2

    def forward(self, x):
        return self.linear(x.flatten(1))


def learner(slope=0.0, eps=0.1, **settings) -> IPGANLearner:
    with ambient(0):
        model = Brightness(slope).eval()
        task = Task(model, model, (1, 4, 4), 2, FGSM(Linf(eps)))
        return IPGAN(**{"width": 4, "blocks": 1, **settings}).learner(task)


def test_both_losses_by_hand():
    trained = learner(
        lr=0.0,
        clean_share=1.0,
        adversarial_weight=3.0,
        logit_weight=5.0,
        feature_weight=7.0,
        pixel_weight=11.0,
    )
    trained.G, trained.D = Fusion(Constant(0.1, (1, 4, 4))), Constant(2.0, (1,))
    trained.opt_g = torch.optim.SGD(trained.G.parameters(), 0.0)
    trained.opt_d = torch.optim.SGD(trained.D.parameters(), 0.0)
    losses = trained.step(X, Y, rng=Rng.of_batch(0, 3))
    up, down = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert losses["d"] == pytest.approx(up + down)
    # x_hat - x is 0.1 everywhere: 0.01 per pixel, and 0.01 / 0.25 in units of the features.
    assert losses["g"] == pytest.approx(3 * up + 5 * math.log(2) + 7 * 0.04 + 11 * 0.01, rel=1e-5)


def test_the_feature_distance_is_in_units_of_the_clean_features():
    phi = torch.tensor([[3.0, 4.0], [0.0, 5.0]])
    for scale in (1.0, 10.0):
        distance = features.feature_distance(scale * (phi + 1), scale * phi)
        assert float(distance) == pytest.approx(2 / 25)


def test_a_share_of_the_images_stays_clean():
    x, y = X[:1].expand(400, -1, -1, -1), Y[:1].expand(400)
    x_adv = learner(slope=1.0, clean_share=0.25).attacked(x, y, Rng.of_batch(0, 400))
    assert float((x_adv == x).all(3).all(2).float().mean()) == pytest.approx(0.25, abs=0.06)


class Inverting(nn.Module):
    """The inverse perturbation that turns an image into its negative."""

    def forward(self, x):
        return 1 - 2 * x


@fails_under(
    "an attack that ignores the purifier", (ip_gan, "Defended", lambda purifier, model: model)
)
def test_an_adaptive_attack_differentiates_the_generator():
    rng = Rng.of_batch(0, 3)
    for view, sign in (("oblivious", 1), ("adaptive", -1)):
        trained = learner(slope=1.0, clean_share=0.0, view=view)
        trained.G = Fusion(Inverting())
        moved = trained.attacked(X, Y, rng) - X
        # Class 0 is dark: an attack makes it brighter, or darker where the purifier inverts it.
        torch.testing.assert_close(moved[0], torch.full((1, 4, 4), sign * 0.1))


def test_the_budget_grows_over_the_warm_up():
    trained = learner(slope=1.0, clean_share=0.0, warmup_steps=3, lr=0.0)
    sizes = []
    for step in range(5):
        rng = Rng.of_batch(step, 3)
        sizes.append(float((trained.attacked(X, Y, rng) - X).abs().amax()))
        trained.step(X, Y, rng=rng)
    assert sizes == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


def test_joint_training_changes_a_copy_of_the_classifier():
    trained = learner(slope=1.0, joint=True, lr=0.01)
    before = trained.task.classifier.linear.weight.clone()
    trained.step(X, Y, rng=Rng.of_batch(0, 3))
    outcome = trained.outcome()
    assert torch.equal(trained.task.classifier.linear.weight, before)
    assert not torch.equal(outcome.classifier.linear.weight, before)
    assert outcome.retrained and outcome.is_defence
    assert not learner().outcome().retrained


def test_training_restores_the_class_of_attacked_images():
    model = Brightness(slope=40.0).eval()
    with ambient(0):
        task = Task(model, model, (1, 4, 4), 2, FGSM(Linf(0.2)))
        trained = IPGAN(width=8, blocks=1, clean_share=0.3, lr=3e-3).learner(task)
    level = torch.linspace(0.0, 1.0, 64)[:, None, None, None]
    texture = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    x = (0.25 + 0.5 * (level > 0.5).float() + 0.1 * (texture - 0.5)).clamp(0, 1)
    y = (level > 0.5).long().flatten()
    rng = Rng.of_batch(0, 64)
    attacked = FGSM(Linf(0.3))(model, x, y)
    assert (model(attacked).argmax(1) == y).float().mean() < 0.2
    for step in range(150):
        trained.step(x, y, rng=rng.fold(step))
    defended = trained.outcome().defended
    attacked = FGSM(Linf(0.2))(model, x, y)
    assert (defended(attacked).argmax(1) == y).float().mean() > 0.95
    assert (defended(x).argmax(1) == y).float().mean() > 0.95


@pytest.mark.parametrize("setting", [{"view": "adaptive"}, {"joint": True}, {"warmup_steps": 1}])
def test_images_that_change_in_the_training_cannot_be_precomputed(setting):
    model = Brightness().eval()
    task = Task(model, model, (1, 4, 4), 2, PrecomputedAttack.empty(FGSM(Linf(0.1))))
    with pytest.raises(ValueError, match="set precompute=false"):
        IPGAN(width=4, blocks=1, **setting).learner(task)
    IPGAN(width=4, blocks=1).learner(task)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"width": 0}, "width"),
        ({"clean_share": 1.5}, "clean_share"),
        ({"pixel_weight": -1.0}, "pixel_weight"),
    ],
)
def test_settings_out_of_range_raise(setting, message):
    with pytest.raises(ValueError, match=message):
        IPGAN(**setting)
