"""Generator and critic of Defense-GAN, for images of any size.

Samangouei, Kabkab, Chellappa, "Defense-GAN: Protecting Classifiers Against Adversarial Attacks
Using Generative Models", 2018. https://arxiv.org/abs/1805.06605; layers of the authors' release,
https://github.com/kabkabm/defensegan.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from spearshield.nets.latent_projection import Latents
from spearshield.types import Images, Logits, Shape


class Generator(nn.Module):
    """A linear layer and 5x5 deconvolutions that double the size.

    For 28 pixels, the sides of the maps are 4, 7, 14 and 28. Above 32 pixels there are more
    deconvolutions, and a tanh in place of the sigmoid.
    """

    def __init__(self, shape: Shape, width: int, latent: int) -> None:
        super().__init__()
        channels, *size = shape
        layers = max(3, math.ceil(math.log2(max(size) / 4)))
        widths = [4 * width, 2 * width] + [width] * (layers - 2) + [channels]
        sizes = [tuple(-(-side // 2**i) for side in size) for i in range(layers, -1, -1)]
        self.tanh = layers > 3
        self.linear = nn.Linear(latent, widths[0] * math.prod(sizes[0]))
        self.unflatten = nn.Unflatten(1, (*sizes[0], widths[0]))
        self.deconvs = nn.ModuleList(
            # to twice the side, or to twice the side minus one
            nn.ConvTranspose2d(*ends, 5, 2, 2, tuple((side + 1) % 2 for side in larger))
            for ends, larger in zip(pairwise(widths), sizes[1:], strict=True)
        )
        initialise(self)

    def forward(self, z: Latents) -> Images:
        x: Tensor = self.unflatten(self.linear(z)).permute(0, 3, 1, 2)
        for deconv in self.deconvs:
            x = deconv(x.relu())
        return 0.5 + 0.5 * x.tanh() if self.tanh else x.sigmoid()


class Critic(nn.Module):
    """Three 5x5 convolutions that halve the size, and a linear layer; a critic or an encoder.

    Args:
        outputs: Numbers per image.
    """

    def __init__(self, shape: Shape, width: int, outputs: int = 1) -> None:
        super().__init__()
        channels, h, w = shape
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 5, 2, 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 5, 2, 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 5, 2, 2),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(4 * width * -(-h // 8) * -(-w // 8), outputs),
        )
        initialise(self)

    def forward(self, x: Images) -> Logits:
        logits: Logits = self.body(x)
        return logits


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Set the initial weights of the release: uniform, with biases of zero.

    The variance is 2 / (fan_in + fan_out) in linear layers, and twice that in convolutions. With a
    stride of 2, the fan on the side with more pixels is a quarter of the weights there.
    """
    for values in network.parameters():
        if values.dim() == 1:
            values.zero_()
        else:
            linear = values.dim() == 2
            strided, other = values[:, 0].numel(), values[0].numel()
            fans = strided + other if linear else strided / 4 + other
            bound = math.sqrt(3 * (2 if linear else 4) / fans)
            values.uniform_(-bound, bound)
