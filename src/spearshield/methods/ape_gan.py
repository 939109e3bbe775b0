"""APE-GAN: a generator maps adversarial images to clean images.

Shen, Jin, Gao, Zhang, "APE-GAN: Adversarial Perturbation Elimination with GAN", 2017.
https://arxiv.org/abs/1707.05474

    G  generator      x_adv -> x     the purifier
    D  discriminator  image -> logit, high for clean images

    L_D = BCE(D(x), 1) + BCE(D(G(x_adv)), 0)
    L_G = mse_weight * sqrt(MSE(G(x_adv), x)) + adversarial_weight * BCE(D(G(x_adv)), 1)

Differences from the paper. The weights, the square root, the two updates of G for each update of D,
the optimiser and the widths are those of the authors' released code; kernels are 4x4. Images are in
[0, 1]; G and D scale them to [-1, 1] inside. The method was broken by an attack that differentiates
G: Carlini, Wagner, 2017, https://arxiv.org/abs/1711.08478.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import mse_loss, pad

from spearshield.losses.gan import bce
from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.optim import minimise
from spearshield.types import Images, Labels, Logits, Shape


@dataclass(frozen=True)
class APEGAN(Method):
    """Hyper-parameters of APE-GAN, with the defaults of the authors' release.

    Args:
        width: Channels of the first convolution; deeper ones have two and four times as many.
        mse_weight: Weight of the root mean squared error, on the [-1, 1] pixel scale.
        adversarial_weight: Weight of the discriminator's loss.
        generator_steps: Updates of G for each update of D.
        lr: Learning rate of both Adam optimisers.

    Raises:
        ValueError: A number is out of range.
    """

    paper = Paper(
        "APE-GAN: Adversarial Perturbation Elimination with GAN",
        "Shen, Shiwei and Jin, Guoqing and Gao, Ke and Zhang, Yongdong",
        2017,
        "https://arxiv.org/abs/1707.05474",
    )

    width: int = 64
    mse_weight: float = 0.9
    adversarial_weight: float = 0.02
    generator_steps: int = 2
    lr: float = 2e-4

    def __post_init__(self) -> None:
        require(self, "width", "generator_steps", at_least=1)
        require(self, "mse_weight", "adversarial_weight", "lr", at_least=0)

    def learner(self, task: Task) -> APEGANLearner:
        return APEGANLearner(self, task)


class APEGANLearner(Learner):
    def __init__(self, method: APEGAN, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        self.G = Generator(task.shape[0], method.width)
        self.D = Discriminator(task.shape, method.width)
        self.opt_g = torch.optim.Adam(self.G.parameters(), method.lr, betas=(0.5, 0.999))
        self.opt_d = torch.optim.Adam(self.D.parameters(), method.lr, betas=(0.5, 0.999))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, G, D = self.method, self.G.train(), self.D.train()
        x_adv = self.task.attack(frozen(self.task.classifier), x, y, rng=rng)

        # D: high scores for clean images, low scores for purified images.
        loss_d = bce(D(x), real=True) + bce(D(G(x_adv).detach()), real=False)
        minimise(self.opt_d, loss_d)

        # G: images close to the clean image, with high scores.
        for _ in range(method.generator_steps):
            x_hat = G(x_adv)
            distance = mse_loss(2 * x_hat - 1, 2 * x - 1).sqrt()
            loss_g = method.mse_weight * distance + method.adversarial_weight * bce(
                D(x_hat), real=True
            )
            minimise(self.opt_g, loss_g)

        return {"d": loss_d.item(), "g": loss_g.item(), "rmse": distance.item()}

    def outcome(self) -> Outcome:
        return Outcome(self.task.classifier, purifier=self.G.eval())


class Generator(nn.Module):
    """Two strided convolutions and two deconvolutions, for images of any size."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(width, channels, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, x: Images) -> Images:
        h, w = x.shape[2:]
        x = pad(x, (0, -w % 4, 0, -h % 4), mode="replicate")
        x_hat: Images = 0.5 + 0.5 * self.body(2 * x - 1)
        return x_hat[:, :, :h, :w]


class Discriminator(nn.Module):
    """Three strided convolutions and a linear layer; one logit per image."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        channels, h, w = shape
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, 2, 1),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(4 * width * -(-h // 8) * -(-w // 8), 1),
        )

    def forward(self, x: Images) -> Logits:
        logits: Logits = self.body(2 * x - 1)
        return logits
