"""20-layer ResNet of Wang and Yu, who train it against a generator of perturbations.

Wang, Yu, "A Direct Approach to Robust Deep Learning Using Adversarial Networks", 2019,
https://arxiv.org/abs/1905.09591; layers as in the authors' code,
https://github.com/whxbergkamp/RobustDL_GAN, where the file is called "resnet18". The shortcut
of the first block is projected in every stage, including the first.

The authors' code normalises by the statistics of the current batch even during tests and attacks,
and keeps no running averages. Here evaluation uses running averages, so that the logits of an image
do not depend on the other images of the batch.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, Normalize
from spearshield.nets.cifar_resnet import projection, stage
from spearshield.ranges import require
from spearshield.types import Shape


@dataclass(frozen=True)
class WangYuResNet(Architecture):
    """Three stages of three blocks with 16, 32 and 64 channels. Pixels are scaled to [-1, 1].

    Args:
        width: Factor of the channels of the stages, not of the stem. The wide network of the paper
            has 10.
        stem_norm: True: batch normalisation after the stem, as for CIFAR-10. False: after the last
            block, as for SVHN.

    Raises:
        ValueError: ``width`` is below 1.
    """

    width: int = 1
    stem_norm: bool = True

    def __post_init__(self) -> None:
        require(self, "width", at_least=1)

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
