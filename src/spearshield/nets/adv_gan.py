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
        output: Images = self.body(padded(2 * x - 1))
        return output[:, :, :h, :w]


class ConditionedGenerator(nn.Module):
    """A generator that receives the features of a classifier on the image, at three scales.

    As in U-Net, Ronneberger, Fischer, Brox, 2015, https://arxiv.org/abs/1505.04597, each scale of
    the decoder also receives the maps of that scale of the encoder.

    Args:
        classes: Number of classes; each probability enters as a constant plane.
        maps: Channels of the classifier's maps at full, half and quarter size.
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
        whole, half, quarter = (norm(own) for norm, own in zip(self.norms, maps, strict=True))
        image = padded(2 * x - 1)
        planes = probabilities[:, :, None, None].expand(-1, -1, *image.shape[2:])
        whole = self.see_whole(concatenate(torch.cat([image, planes], 1), whole))
        half = self.see_half(concatenate(self.to_half(whole), half))
        quarter = self.see_quarter(concatenate(self.to_quarter(half), quarter))
        half = self.join_half(concatenate(self.up_half(quarter), half))
        whole = self.join_whole(concatenate(self.up_whole(half), whole))
        output: Images = self.answer(whole)
        return output[:, :, :h, :w]


def convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU())


def deconvolution(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.ReLU()
    )


def padded(x: Tensor) -> Tensor:
    """The images, padded so that both sides are multiples of 4."""
    h, w = x.shape[2:]
    return pad(x, (0, -w % 4, 0, -h % 4), mode="replicate")


def concatenate(maps: Tensor, others: Tensor) -> Tensor:
    """The channels of ``maps`` and of ``others``, which are resized to the size of ``maps``."""
    return torch.cat([maps, interpolate(others, maps.shape[2:])], 1)


class Residual(nn.Module):
    """Two convolutions with batch normalisation, added to their input."""

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
        output: Tensor = maps + self.body(maps)
        return output


class PerturbationGenerator(nn.Module):
    """A generator whose output is an adversarial image.

    Args:
        residual: If true, the network outputs the perturbation, else the image.
        clip: If true, the output is inside the threat model, else only in [0, 1].
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
        output = self.generator(x, *self.classifier_features(x))
        if self.residual:
            x_adv = x + (self.threat.eps if self.clip else 1.0) * output
        else:
            x_adv = 0.5 + 0.5 * output
        return self.threat.project(x_adv, x) if self.clip else x_adv.clamp(0, 1)

    def condition_on(self, network: nn.Module) -> None:
        """Replace the generator by a new one that receives the features of ``network``."""
        self.condition_network = network
        device = next((weight.device for weight in network.parameters()), None)
        probabilities, *maps = self.classifier_features(torch.zeros(1, *self.shape, device=device))
        self.generator = ConditionedGenerator(
            self.shape[0], self.width, probabilities.shape[1], [own.shape[1] for own in maps]
        )

    @torch.no_grad()
    def classifier_features(self, x: Images) -> tuple[Tensor, ...]:
        """Probabilities (n, k) and three maps (n, c, h, w) of the classifier on the images.

        The maps are the classifier's last ones with the height of the image, half of it and a
        quarter of it, or with the nearest height there is. A classifier without maps yields the
        images in their place. An unconditioned generator receives no features: an empty tuple.
        """
        if self.condition_network is None:
            return ()
        height = x.shape[2]
        by_height = {height: x}

        def keep(module: nn.Module, inputs: object, output: object) -> None:  # noqa: ARG001
            if isinstance(output, Tensor) and output.ndim == 4 and len(output) == len(x):
                by_height[output.shape[2]] = output

        hooks = [module.register_forward_hook(keep) for module in self.condition_network.modules()]
        try:
            probabilities = frozen(self.condition_network)(x).softmax(1)
        finally:
            for hook in hooks:
                hook.remove()
        heights = [
            min(by_height, key=lambda own: abs(math.log(own * scale / height)))
            for scale in (1, 2, 4)
        ]
        return probabilities, *(by_height[own] for own in heights)


class Discriminator(nn.Module):
    """Three strided convolutions and a linear layer; one score per image."""

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
    """The side of the output of one of the discriminator's convolutions."""
    return side // 2 + 1
