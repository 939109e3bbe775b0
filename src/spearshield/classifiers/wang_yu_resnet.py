"""The 20-layer ResNet that Wang and Yu train against a generator of noise.

Wang, Yu, "A Direct Approach to Robust Deep Learning Using Adversarial Networks", 2019,
https://arxiv.org/abs/1905.09591; layers as in the authors' release,
https://github.com/whxbergkamp/RobustDL_GAN, where the file is called "resnet18". It projects the
shortcut in the first block of every stage, the first stage included.

The release normalises by the statistics of the batch at hand even at test and attack time, and
keeps no running averages. Here evaluation uses running averages, so that an image's answer does
not depend on its neighbours.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, Normalize
from spearshield.nets.cifar_resnet import projection, stage
from spearshield.types import Shape


@dataclass(frozen=True)
class WangYuResNet(Architecture):
    """Three stages of three blocks with 16, 32 and 64 channels; pixels are taken to [-1, 1].

    Args:
        width: Multiplies the stages' channels, not the stem's; 10 is the paper's wide network.
        stem_norm: Normalise behind the stem, as for CIFAR-10; otherwise behind the last block, as
            for SVHN.

    Raises:
        ValueError: ``width`` is not positive.
    """

    width: int = 1
    stem_norm: bool = True

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        one, two, three = (16 * self.width, 32 * self.width, 64 * self.width)
        stem = OrderedDict[str, nn.Module](
            normalize=Normalize.symmetric(shape[0]),
            conv1=nn.Conv2d(shape[0], 16, 3, padding=1, bias=False),
        )
        stages = OrderedDict[str, nn.Module](
            layer1=stage(16, one, 3, 1, projection(16, one, 1)),
            layer2=stage(one, two, 3, 2, projection(one, two, 2)),
            layer3=stage(two, three, 3, 2, projection(two, three, 2)),
        )
        norm = OrderedDict[str, nn.Module](
            bn1=nn.BatchNorm2d(16 if self.stem_norm else three), relu=nn.ReLU()
        )
        head = OrderedDict[str, nn.Module](
            pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(three, classes)
        )
        body = norm | stages if self.stem_norm else stages | norm
        return nn.Sequential(OrderedDict(stem | body | head))
