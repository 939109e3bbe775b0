"""GRIP-GAN: inverse perturbations that are trained on noise, without attacks.

General robust inverse perturbation, a method in the table of Zhang, Zhang, Song, Yang, Zuo,
"IP-GAN", Acta Electronica Sinica, 2023, no. 4, pp. 879-884. https://www.ejournal.org.cn

    f  classifier; phi its penultimate features     they do not change
    G  generator      image -> inverse perturbation;  the purifier is x_hat = clip(x + G(x))
    D  discriminator  image -> logit, high for clean images

    x_noisy = clip(x + s n),  n ~ N(0, 1) for each pixel,  s ~ U(0, noise) for each image
    x_hat = clip(x_noisy + G(x_noisy))

    L_D = BCE(D(x), 1) + BCE(D(x_hat), 0)
    L_G = adversarial_weight * BCE(D(x_hat), 1) + logit_weight * CE(f(x_hat), y)
        + feature_weight * |phi(x_hat) - phi(x)|^2 / mean |phi(x)|^2
        + pixel_weight * MSE(x_hat, x)

Differences from the paper. Its text was not available. Known is that it adds random noise to real
images and generates a general robust inverse perturbation. Everything else is reconstructed: it is
IP-GAN with noise in place of adversarial images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy, mse_loss

from spearshield.losses.features import feature_distance
from spearshield.losses.gan import bce
from spearshield.method import Learner, Method, Outcome, Paper, Task
from spearshield.nets.adv_gan import Discriminator
from spearshield.nets.features import features_of
from spearshield.nets.inverse_perturbation import Fusion, InversePerturbation
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.classifier_training import accuracy
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class GRIPGAN(Method):
    """Hyper-parameters of GRIP-GAN.

    Args:
        width: Channels of the first convolution of the generator.
        blocks: Number of residual blocks of the generator.
        noise: Largest standard deviation of the noise, on the [0, 1] pixel scale.
        adversarial_weight: Weight of the discriminator's loss.
        logit_weight: Weight of the classifier's cross-entropy.
        feature_weight: Weight of the distance of penultimate features.
        pixel_weight: Weight of the mean squared error of the pixels.
        lr: Learning rate of both Adam optimisers.
        decay_steps: Steps over which the learning rate decays to zero on a half cosine; 0: it is
            constant.

    Raises:
        ValueError: A number is out of range.
    """

    paper = Paper(
        "IP-GAN: inverse perturbation fusing generative adversarial network",
        "Zhang, Shihui and Zhang, Xiaowei and Song, Dandan and Yang, Yongliang and Zuo, Dongxu",
        2023,
        "https://www.ejournal.org.cn",
    )

    width: int = 32
    blocks: int = 4
    noise: float = 0.5
    adversarial_weight: float = 0.02
    logit_weight: float = 1.0
    feature_weight: float = 1.0
    pixel_weight: float = 10.0
    lr: float = 1e-3
    decay_steps: int = 0

    def __post_init__(self) -> None:
        require(self, "width", "blocks", at_least=1)
        require(self, "noise", "adversarial_weight", "logit_weight", at_least=0)
        require(self, "feature_weight", "pixel_weight", "lr", "decay_steps", at_least=0)

    def learner(self, task: Task) -> GRIPGANLearner:
        return GRIPGANLearner(self, task)


class GRIPGANLearner(Learner):
    taken: torch.Tensor

    def __init__(self, method: GRIPGAN, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        self.G = Fusion(InversePerturbation(task.shape[0], method.width, method.blocks))
        self.D = Discriminator(task.shape, method.width)
        self.opt_g = torch.optim.Adam(self.G.parameters(), method.lr, betas=(0.5, 0.999))
        self.opt_d = torch.optim.Adam(self.D.parameters(), method.lr, betas=(0.5, 0.999))
        self.register_buffer("taken", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, G, D = self.method, self.G.train(), self.D.train()
        set_lr(cosine(method.lr, int(self.taken), method.decay_steps), self.opt_g, self.opt_d)
        self.taken += 1
        s = method.noise * rng.fold(0).uniform((1, 1, 1))
        x_noisy = (x + s * rng.fold(1).normal(x.shape[1:])).clamp(0, 1)
        x_hat = G(x_noisy)

        # D: high scores for clean images, low scores for purified images.
        loss_d = bce(D(x), real=True) + bce(D(x_hat.detach()), real=False)
        minimise(self.opt_d, loss_d)

        # G: natural images with the features and the class of the clean image.
        phi, _ = features_of(self.task.classifier, x)
        phi_hat, logits = features_of(self.task.classifier, x_hat)
        loss_g = (
            method.adversarial_weight * bce(D(x_hat), real=True)
            + method.logit_weight * cross_entropy(logits, y)
            + method.feature_weight * feature_distance(phi_hat, phi.detach())
            + method.pixel_weight * mse_loss(x_hat, x)
        )
        minimise(self.opt_g, loss_g)
        return {"d": loss_d.item(), "g": loss_g.item(), "accuracy": accuracy(logits, y)}

    def outcome(self) -> Outcome:
        return Outcome(self.task.classifier, purifier=self.G.eval())
