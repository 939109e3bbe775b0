"""Generator and discriminator of AdvGAN, for images of any size of at least 5 pixels.

Xiao, Li, Zhu, He, Liu, Song, "Generating Adversarial Examples with Adversarial Networks", 2018.
https://arxiv.org/abs/1801.02610; layers after a public port,
https://github.com/mathcbc/advGAN_pytorch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from spearshield.method import frozen
from spearshield.threat import ThreatModel
from spearshield.types import Images, Logits, Shape


class Generator(nn.Module):
    """Two strided convolutions, four residual blocks, two deconvolutions, a tanh.

    Images of any size of at least 5 pixels.

    Args:
        told: Numbers in [0, 1] that it is told beside each image; it sees each as a grey plane.
    """

    def __init__(self, channels: int, width: int, told: int = 0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels + told, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, 2, 1),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            *(Residual(4 * width) for _ in range(4)),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, x: Images, told: Tensor | None = None) -> Images:
        h, w = x.shape[2:]
        seen = x if told is None else torch.cat([x, told[:, :, None, None].expand(-1, -1, h, w)], 1)
        padded = pad(2 * seen - 1, (0, -w % 4, 0, -h % 4), mode="replicate")
        answer: Images = self.body(padded)
        return answer[:, :, :h, :w]


class Residual(nn.Module):
    """Two convolutions, added to what comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, maps: Tensor) -> Tensor:
        answer: Tensor = maps + self.body(maps)
        return answer


class Perturber(nn.Module):
    """A generator's answer as an image of the threat model.

    Args:
        residual: Whether the generator says what is added to the image, or the image itself.
        clip: Whether the answer is inside the threat model, or only in [0, 1].
        classes: Those of ``known``, the classifier whose probabilities for the image the generator
            is told; 0: there is none.
    """

    def __init__(
        self,
        shape: Shape,
        width: int,
        threat: ThreatModel,
        *,
        residual: bool = True,
        clip: bool = True,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.generator = Generator(shape[0], width, classes)
        self.known: nn.Module | None = None
        self.threat = threat
        self.residual = residual
        self.clip = clip

    def forward(self, x: Images) -> Images:
        answer = self.generator(x, *self.told(x))
        if self.residual:
            x_adv = x + (self.threat.eps if self.clip else 1.0) * answer
        else:
            x_adv = 0.5 + 0.5 * answer
        return self.threat.project(x_adv, x) if self.clip else x_adv.clamp(0, 1)

    @torch.no_grad()
    def told(self, x: Images) -> tuple[Tensor, ...]:
        """What the generator is told beside the images."""
        return (frozen(self.known)(x).softmax(1),) if self.known else ()


class Discriminator(nn.Module):
    """Three strided convolutions and a linear layer."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        channels, h, w = shape
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 2),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 2),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(4 * width * math.prod(smaller(smaller(smaller(n))) for n in (h, w)), 1),
        )

    def forward(self, x: Images) -> Logits:
        scores: Logits = self.body(2 * x - 1)
        return scores


def smaller(side: int) -> int:
    """A side behind one of D's convolutions."""
    return side // 2 + 1
