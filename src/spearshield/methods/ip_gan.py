"""IP-GAN: a generator of inverse perturbations, guided by the classifier.

Zhang, Zhang, Song, Yang, Zuo, "IP-GAN", Acta Electronica Sinica, 2023, no. 4, pp. 879-884.
https://www.ejournal.org.cn

    f  classifier; phi its penultimate features
    G  generator      x_adv -> inverse perturbation;  the purifier is x_hat = clip(x_adv + G(x_adv))
    D  discriminator  image -> logit, high for clean images

    L_D = BCE(D(x), 1) + BCE(D(x_hat), 0)
    L_G = adversarial_weight * BCE(D(x_hat), 1) + logit_weight * CE(f(x_hat), y)
        + feature_weight * |phi(x_hat) - phi(x)|^2 / mean |phi(x)|^2
        + pixel_weight * MSE(x_hat, x)
    L_f = CE(f(x_hat), y)                                            joint training only

The updates of D and G are in :mod:`spearshield.training.guided_purifier`.

Differences from the paper. Its abstract and its table were available. Known are the inverse
perturbation that is added to the adversarial image, the guidance of its direction by the classifier
and by its features, and the discriminator. The losses, their weights, the networks, the attacks and
the schedule are reconstructed. New here:

- ``view="adaptive"``: the attack that G is trained on differentiates the defence, G included.
- ``joint``: f is trained together with G, from the weights of the task's classifier.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from spearshield.method import Defended, Outcome, Paper, Task, frozen
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.classifier_training import scaled
from spearshield.training.guided_purifier import GuidedPurifierLearner, GuidedPurifierTraining
from spearshield.training.optim import minimise, set_lr
from spearshield.training.precomputed_attack import PrecomputedAttack
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class IPGAN(GuidedPurifierTraining):
    """Hyper-parameters of IP-GAN; further settings are those of ``GuidedPurifierTraining``.

    Args:
        clean_share: Share of the images, in [0, 1], that are not attacked.
        view: ``oblivious``: the attack differentiates the classifier; ``adaptive``: it
            differentiates the generator and the classifier.
        warmup_steps: Steps over which the eps of the attack grows to its full value.
        joint: If true, a copy of the classifier is trained, too.

    Raises:
        ValueError: A number is out of range. At the start of training: there is no attack to train
            on, or its images are precomputed but change in the training (``adaptive``,
            ``warmup_steps``, ``joint``).
    """

    paper = Paper(
        "IP-GAN: inverse perturbation fusing generative adversarial network",
        "Zhang, Shihui and Zhang, Xiaowei and Song, Dandan and Yang, Yongliang and Zuo, Dongxu",
        2023,
        "https://www.ejournal.org.cn",
    )

    clean_share: float = 0.2
    view: Literal["oblivious", "adaptive"] = "oblivious"
    warmup_steps: int = 0
    joint: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "clean_share", at_least=0, at_most=1)
        require(self, "warmup_steps", at_least=0)
        require(self, "view", one_of=("oblivious", "adaptive"))

    def learner(self, task: Task) -> IPGANLearner:
        changing = self.view == "adaptive" or self.warmup_steps > 0 or self.joint
        if changing and isinstance(task.learn_from, PrecomputedAttack):
            raise ValueError(
                "images cannot be attacked before the first step, because the attacked model or "
                "the budget changes in the training (view=adaptive, joint, warmup_steps); set "
                "precompute=false"
            )
        return IPGANLearner(self, task)


class IPGANLearner(GuidedPurifierLearner):
    def __init__(self, method: IPGAN, task: Task) -> None:
        super().__init__(method, task)
        self.attack = task.attack
        if method.joint:
            self.classifier = copy.deepcopy(task.classifier)
            self.opt_f = torch.optim.Adam(self.classifier.parameters(), method.lr)

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        x_adv, lr = self.attacked(x, y, rng), self.lr
        losses, x_hat = self.restore(self.f, x_adv, x, y)
        if self.method.joint:
            set_lr(lr, self.opt_f)
            minimise(self.opt_f, cross_entropy(self.classifier.train()(x_hat), y))
        return losses

    @property
    def f(self) -> nn.Module:
        """The classifier behind the purifier."""
        return self.classifier if self.method.joint else self.task.classifier

    def attacked(self, x: Images, y: Labels, rng: Rng) -> Images:
        """Adversarial images, with a share of clean ones."""
        method = self.method
        adaptive = method.view == "adaptive"
        victim = frozen(Defended(self.G, self.f) if adaptive else self.f)
        share = min(1.0, (int(self.taken) + 1) / (method.warmup_steps + 1))
        x_adv = scaled(self.attack, share)(victim, x, y, rng=rng.fold(0))
        clean = rng.fold(1).uniform((1, 1, 1)) < method.clean_share
        return torch.where(clean, x, x_adv)

    def outcome(self) -> Outcome:
        return Outcome(self.f.eval(), purifier=self.G.eval(), retrained=self.method.joint)
