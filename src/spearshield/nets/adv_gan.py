"""Generators and discriminator of AdvGAN, for images of any size.

Xiao, Li, Zhu, He, Liu, Song, "Generating Adversarial Examples with Adversarial Networks", 2018.
https://arxiv.org/abs/1801.02610; layers after a public port,
https://github.com/mathcbc/advGAN_pytorch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from spearshield.method import frozen
from spearshield.threat import ThreatModel
from spearshield.types import Images, Logits, Shape


class Generator(nn.Module):
    """Two strided convolutions, four residual blocks, two deconvolutions, a tanh."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
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

    def forward(self, x: Images) -> Images:
        h, w = x.shape[2:]
        answer: Images = self.body(padded(2 * x - 1))
        return answer[:, :, :h, :w]


class InformedGenerator(nn.Module):
    """A generator that sees what a classifier makes of the image, at each of its three scales.

    On the way up each scale also sees what it saw on the way down, as in U-Net, Ronneberger,
    Fischer, Brox, 2015, https://arxiv.org/abs/1505.04597.

    Args:
        classes: Of the classifier; each probability is seen as a grey plane.
        maps: Channels of its maps, beside the whole, the halved and the quartered image.
    """

    def __init__(self, channels: int, width: int, classes: int, maps: Sequence[int]) -> None:
        super().__init__()
        whole, half, quarter = maps
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in maps)
        self.see_whole = convolution(channels + classes + whole, width)
        self.to_half = convolution(width, width, stride=2)
        self.see_half = convolution(width + half, 2 * width)
        self.to_quarter = convolution(2 * width, 4 * width, stride=2)
        self.see_quarter = nn.Sequential(
            convolution(4 * width + quarter, 4 * width), *(Residual(4 * width) for _ in range(4))
        )
        self.up_half = deconvolution(4 * width, 2 * width)
        self.join_half = convolution(4 * width, 2 * width)
        self.up_whole = deconvolution(2 * width, width)
        self.join_whole = convolution(2 * width, width)
        self.answer = nn.Sequential(nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())

    def forward(self, x: Images, probabilities: Tensor, *maps: Tensor) -> Images:
        h, w = x.shape[2:]
        whole, half, quarter = (norm(seen) for norm, seen in zip(self.norms, maps, strict=True))
        image = padded(2 * x - 1)
        planes = probabilities[:, :, None, None].expand(-1, -1, *image.shape[2:])
        whole = self.see_whole(beside(torch.cat([image, planes], 1), whole))
        half = self.see_half(beside(self.to_half(whole), half))
        quarter = self.see_quarter(beside(self.to_quarter(half), quarter))
        half = self.join_half(beside(self.up_half(quarter), half))
        whole = self.join_whole(beside(self.up_whole(half), whole))
        answer: Images = self.answer(whole)
        return answer[:, :, :h, :w]


def convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU())


def deconvolution(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.ReLU()
    )


def padded(x: Tensor) -> Tensor:
    """Images whose sides are halved twice without a rest."""
    h, w = x.shape[2:]
    return pad(x, (0, -w % 4, 0, -h % 4), mode="replicate")


def beside(maps: Tensor, others: Tensor) -> Tensor:
    """Maps, and others that are brought to their size."""
    return torch.cat([maps, interpolate(others, maps.shape[2:])], 1)


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


class PerturbationGenerator(nn.Module):
    """A generator's answer as an image of the threat model.

    Args:
        residual: Whether the generator says what is added to the image, or the image itself.
        clip: Whether the answer is inside the threat model, or only in [0, 1].
    """

    def __init__(
        self,
        shape: Shape,
        width: int,
        threat: ThreatModel,
        *,
        residual: bool = True,
        clip: bool = True,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.width = width
        self.generator: nn.Module = Generator(shape[0], width)
        self.condition_network: nn.Module | None = None
        self.threat = threat
        self.residual = residual
        self.clip = clip

    def forward(self, x: Images) -> Images:
        answer = self.generator(x, *self.classifier_features(x))
        if self.residual:
            x_adv = x + (self.threat.eps if self.clip else 1.0) * answer
        else:
            x_adv = 0.5 + 0.5 * answer
        return self.threat.project(x_adv, x) if self.clip else x_adv.clamp(0, 1)

    def inform(self, condition_network: nn.Module) -> None:
        """From now on a new generator sees what the classifier ``known`` makes of each image."""
        self.condition_network = condition_network
        device = next((weight.device for weight in condition_network.parameters()), None)
        probabilities, *maps = self.classifier_features(torch.zeros(1, *self.shape, device=device))
        self.generator = InformedGenerator(
            self.shape[0], self.width, probabilities.shape[1], [seen.shape[1] for seen in maps]
        )

    @torch.no_grad()
    def classifier_features(self, x: Images) -> tuple[Tensor, ...]:
        """What the generator is told beside the images: probabilities (N, K), maps (N, C, H, W).

        The three maps are the last that ``known`` makes at, or nearest to, the image's own height,
        half and a quarter of it; of a classifier without maps, the image itself. Nothing, where the
        generator is not informed.
        """
        if self.condition_network is None:
            return ()
        height = x.shape[2]
        seen = {height: x}

        def keep(module: nn.Module, given: object, made: object) -> None:  # noqa: ARG001
            if isinstance(made, Tensor) and made.ndim == 4 and len(made) == len(x):
                seen[made.shape[2]] = made

        hooks = [module.register_forward_hook(keep) for module in self.condition_network.modules()]
        try:
            probabilities = frozen(self.condition_network)(x).softmax(1)
        finally:
            for hook in hooks:
                hook.remove()
        sides = [
            min(seen, key=lambda side: abs(math.log(side * scale / height))) for scale in (1, 2, 4)
        ]
        return probabilities, *(seen[side] for side in sides)


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
