"""Attacks that make no effort. On the same network, sound attacks break many more images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from spearshield.adversary import Attack, misclassified
from spearshield.attacks.deepfool import DeepFool
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.rng import Rng, ambient
from spearshield.selftest.networks import THREAT, Networks
from spearshield.selftest.specimen import Specimen
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class CleanImages(Attack):
    """The clean images, after some queries."""

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        for _ in range(20):
            misclassified(model, x, y)
        return x.clone()


@dataclass(frozen=True)
class Descent(Attack):
    """PGD with the opposite sign, so that the loss falls."""

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        return PGD(self.threat)(lambda x: -model(x), x, y, rng=rng)


@dataclass(frozen=True)
class SmallBudget(Attack):
    """PGD within a tenth of the budget."""

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        tenth = replace(self.threat, eps=self.threat.eps / 10)
        return PGD(tenth, restarts=3)(model, x, y, rng=rng)


@dataclass(frozen=True)
class FirstImages(Attack):
    """PGD on a quarter of the images; the others stay clean."""

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        attacked = PGD(self.threat, early_stop=False)(model, x, y, rng=rng)
        return torch.where((torch.arange(len(x)) % 4 == 0)[:, None, None, None], attacked, x)


@dataclass(frozen=True)
class RandomNoise(Attack):
    """A random image in the ball."""

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        return self.threat.random_start(x, rng)


@dataclass(frozen=True)
class ManyRandomImages(Attack):
    """The last of forty random images in the ball, or the first that is misclassified."""

    gradient_free = True

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        x_adv = x.clone()
        for k in range(40):
            left = ~misclassified(model, x_adv, y)
            x_adv[left] = self.threat.random_start(x[left], rng[left].fold(k))
        return x_adv


@dataclass(frozen=True)
class OtherNetwork(Attack):
    """PGD along the gradient of a network with random weights."""

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        _, channels, height, width = x.shape
        with ambient(1):
            other = SmallCNN().build((channels, height, width), 10)
        return PGD(self.threat)(other, x, y, rng=rng)


def attack(
    name: str,
    about: str,
    attack: Attack,
    build: Callable[[Networks], nn.Module] = lambda networks: networks.plain,
    expected: tuple[str, ...] = ("feeble_attack",),
) -> Specimen:
    """A feeble attack, by default on the plain network."""
    return Specimen("feeble attack", name, about, build, attack, expected)


def hardened(networks: Networks) -> nn.Module:
    """The network after adversarial training."""
    return networks.hardened


ATTACKS = (
    attack("one step", "PGD of one step", PGD(THREAT, steps=1)),
    attack("one step from three starts", "PGD of one step", PGD(THREAT, steps=1, restarts=3)),
    attack("tiny steps", "40 steps of a thousandth", PGD(THREAT, step_size=0.001, restarts=3)),
    attack(
        "tiny steps without a random start",
        "100 steps of a ten-thousandth",
        PGD(THREAT, steps=100, step_size=0.0001, random_start=False),
    ),
    attack("FGSM", "one step of the whole budget", FGSM(THREAT)),
    attack("clean images", "changes nothing", CleanImages(THREAT)),
    attack("descent", "the loss falls", Descent(THREAT)),
    attack("a tenth of the budget", "the perturbations are small", SmallBudget(THREAT)),
    attack("a quarter of the images", "most images stay clean", FirstImages(THREAT)),
    attack("random noise", "one random image", RandomNoise(THREAT)),
    attack(
        "forty random images",
        "no gradient is used",
        ManyRandomImages(THREAT),
        expected=("no_white_box",),
    ),
    attack("DeepFool of one step", "one linearisation", DeepFool(THREAT, steps=1)),
    attack("gradient of another network", "it has random weights", OtherNetwork(THREAT)),
    attack("a single run", "PGD of 40 steps from one random start", PGD(THREAT), hardened),
)
