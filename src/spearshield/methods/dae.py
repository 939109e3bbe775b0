"""DAE: a denoising autoencoder learns to undo noise and is put in front of the classifier.

Vincent, Larochelle, Bengio, Manzagol, "Extracting and Composing Robust Features with Denoising
Autoencoders", 2008. https://doi.org/10.1145/1390156.1390294
As a defence: Gu, Rigazio, "Towards Deep Neural Network Architectures Robust to Adversarial
Examples", 2014, https://arxiv.org/abs/1412.5068.

    A  autoencoder  x + noise -> x   the purifier
    L = MSE(A(x + noise), x),  noise ~ N(0, noise^2), then clipped to [0, 1]

Differences from the paper. The network is convolutional, and the noise is Gaussian rather than
masking. Which autoencoder later tables mean by "DAE" is not known; this one sees no adversarial
image and no label unless ``attack_share`` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import mse_loss, pad

from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen, minimise
from spearshield.rng import Rng
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class DAE(Method):
    """Hyper-parameters of the denoising autoencoder.

    Args:
        width: Channels of the first convolution; the code has twice as many.
        noise: Standard deviation of the noise, on the [0, 1] pixel scale.
        attack_share: Share of the images, in [0, 1], that the task's attack corrupts instead.
        lr: Learning rate of Adam.

    Raises:
        ValueError: ``attack_share`` is not in [0, 1] or ``noise`` is negative.
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
        if not 0 <= self.attack_share <= 1 or self.noise < 0:
            raise ValueError(
                "attack_share must be in [0, 1] and noise at least 0, "
                f"got {self.attack_share} and {self.noise}"
            )

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
        """Noisy images; of ``attack_share`` of them, attacked ones."""
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
    """One strided convolution down and one up; images of at least 2 pixels.

    Without batch normalisation it stays at the black image, the mean of dark pictures.
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
