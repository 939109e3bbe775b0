"""DAE: a denoising autoencoder is trained to remove noise, and purifies the classifier's input.

Vincent, Larochelle, Bengio, Manzagol, "Extracting and Composing Robust Features with Denoising
Autoencoders", 2008. https://doi.org/10.1145/1390156.1390294
As a defence: Gu, Rigazio, "Towards Deep Neural Network Architectures Robust to Adversarial
Examples", 2014, https://arxiv.org/abs/1412.5068.

    A  autoencoder  x + noise -> x   the purifier
    L = MSE(A(x + noise), x),  noise ~ N(0, noise^2), then clipped to [0, 1]

Differences from the paper. The network is convolutional, and the noise is Gaussian rather than
masking. Later publications compare with a "DAE" of unknown architecture. With the default
``attack_share``, training uses neither adversarial images nor labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import mse_loss, pad

from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.optim import minimise
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class DAE(Method):
    """Hyper-parameters of the denoising autoencoder.

    Args:
        width: Channels of the first convolution; the code has twice as many.
        noise: Standard deviation of the noise, on the [0, 1] pixel scale.
        attack_share: Share of images, in [0, 1], that are attacked in place of adding noise.
        lr: Learning rate of Adam.

    Raises:
        ValueError: A number is out of range.
    """

    paper = Paper(
        "Extracting and Composing Robust Features with Denoising Autoencoders",
        "Vincent, Pascal and Larochelle, Hugo and Bengio, Yoshua and Manzagol, Pierre-Antoine",
        2008,
        "https://doi.org/10.1145/1390156.1390294",
    )

    width: int = 32
    noise: float = 0.5
    attack_share: float = 0.0
    lr: float = 1e-3

    def __post_init__(self) -> None:
        require(self, "width", at_least=1)
        require(self, "noise", "lr", at_least=0)
        require(self, "attack_share", at_least=0, at_most=1)

    def learner(self, task: Task) -> DAELearner:
        return DAELearner(self, task)


class DAELearner(Learner):
    def __init__(self, method: DAE, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        self.A = Autoencoder(task.shape[0], method.width)
        self.optimiser = torch.optim.Adam(self.A.parameters(), method.lr)

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        loss = mse_loss(self.A.train()(self.corrupt(x, y, rng)), x)
        minimise(self.optimiser, loss)
        return {"mse": loss.item()}

    def corrupt(self, x: Images, y: Labels, rng: Rng) -> Images:
        """Images with noise, or adversarial images for a random ``attack_share`` of them."""
        noisy = (x + self.method.noise * rng.fold(0).normal(x.shape[1:])).clamp(0, 1)
        attacked = rng.fold(1).uniform(()) < self.method.attack_share
        if attacked.any():
            classifier = frozen(self.task.classifier)
            noisy[attacked] = self.task.attack(
                classifier, x[attacked], y[attacked], rng=rng.fold(2)[attacked]
            )
        return noisy

    def outcome(self) -> Outcome:
        return Outcome(self.task.classifier, purifier=self.A.eval())


class Autoencoder(nn.Module):
    """One strided convolution and one deconvolution, for images of any size.

    Without batch normalisation, training on dark images such as MNIST's stops at black images.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x: Images) -> Images:
        h, w = x.shape[2:]
        code = self.encoder(pad(x, (0, w % 2, 0, h % 2), mode="replicate"))
        x_hat: Images = self.decoder(code)
        return x_hat[:, :, :h, :w]
