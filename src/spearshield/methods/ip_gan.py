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
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from spearshield.losses.features import feature_distance
from spearshield.losses.gan import bce
from spearshield.method import Defended, Learner, Method, Outcome, Paper, Task, frozen
from spearshield.nets.adv_gan import Discriminator
from spearshield.nets.features import features_of
from spearshield.nets.inverse_perturbation import Fusion, InversePerturbation
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.classifier_training import accuracy, scaled
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class IPGAN(Method):
    """Hyper-parameters of IP-GAN.

    Args:
        width: Channels of the first convolution of the generator.
        blocks: Number of residual blocks of the generator.
        clean_share: Share of the images, in [0, 1], that are not attacked.
        adversarial_weight: Weight of the discriminator's loss.
        logit_weight: Weight of the classifier's cross-entropy.
        feature_weight: Weight of the distance of penultimate features.
        pixel_weight: Weight of the mean squared error of the pixels.
        view: ``oblivious``: the attack differentiates the classifier; ``adaptive``: it
            differentiates the generator and the classifier.
        warmup_steps: Steps over which the eps of the attack grows to its full value.
        joint: If true, a copy of the classifier is trained, too.
        lr: Learning rate of all Adam optimisers.
        decay_steps: Steps over which the learning rate decays to zero on a half cosine; 0: it is
            constant.

    Raises:
        ValueError: A number is out of range. At the start of training: there is no attack to train
            on.
    """

    paper = Paper(
        "IP-GAN: inverse perturbation fusing generative adversarial network",
        "Zhang, Shihui and Zhang, Xiaowei and Song, Dandan and Yang, Yongliang and Zuo, Dongxu",
        2023,
        "https://www.ejournal.org.cn",
    )

    width: int = 32
    blocks: int = 4
    clean_share: float = 0.2
    adversarial_weight: float = 0.02
    logit_weight: float = 1.0
    feature_weight: float = 1.0
    pixel_weight: float = 10.0
    view: Literal["oblivious", "adaptive"] = "oblivious"
    warmup_steps: int = 0
    joint: bool = False
    lr: float = 1e-3
    decay_steps: int = 0

    def __post_init__(self) -> None:
        require(self, "width", "blocks", at_least=1)
        require(self, "clean_share", at_least=0, at_most=1)
        require(self, "adversarial_weight", "logit_weight", "feature_weight", at_least=0)
        require(self, "pixel_weight", "warmup_steps", "lr", "decay_steps", at_least=0)
        require(self, "view", one_of=("oblivious", "adaptive"))

    def learner(self, task: Task) -> IPGANLearner:
        return IPGANLearner(self, task)


class IPGANLearner(Learner):
    taken: Tensor

    def __init__(self, method: IPGAN, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        self.attack = task.attack
        self.G = Fusion(InversePerturbation(task.shape[0], method.width, method.blocks))
        self.D = Discriminator(task.shape, method.width)
        self.opt_g = torch.optim.Adam(self.G.parameters(), method.lr, betas=(0.5, 0.999))
        self.opt_d = torch.optim.Adam(self.D.parameters(), method.lr, betas=(0.5, 0.999))
        if method.joint:
            self.classifier = copy.deepcopy(task.classifier)
            self.opt_f = torch.optim.Adam(self.classifier.parameters(), method.lr)
        self.register_buffer("taken", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, G, D, f = self.method, self.G.train(), self.D.train(), self.f
        optimisers = [self.opt_g, self.opt_d] + ([self.opt_f] if method.joint else [])
        set_lr(cosine(method.lr, int(self.taken), method.decay_steps), *optimisers)
        x_adv = self.attacked(x, y, rng)
        self.taken += 1
        x_hat = G(x_adv)

        # D: high scores for clean images, low scores for purified images.
        loss_d = bce(D(x), real=True) + bce(D(x_hat.detach()), real=False)
        minimise(self.opt_d, loss_d)

        # G: natural images with the features and the class of the clean image.
        phi, _ = features_of(f, x)
        phi_hat, logits = features_of(f, x_hat)
        loss_g = (
            method.adversarial_weight * bce(D(x_hat), real=True)
            + method.logit_weight * cross_entropy(logits, y)
            + method.feature_weight * feature_distance(phi_hat, phi.detach())
            + method.pixel_weight * mse_loss(x_hat, x)
        )
        minimise(self.opt_g, loss_g)

        # f: the class of the purified image.
        if method.joint:
            minimise(self.opt_f, cross_entropy(self.classifier.train()(x_hat.detach()), y))
        return {"d": loss_d.item(), "g": loss_g.item(), "accuracy": accuracy(logits, y)}

    @property
    def f(self) -> torch.nn.Module:
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
