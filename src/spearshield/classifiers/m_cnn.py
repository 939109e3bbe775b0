"""M-CNN: a plain CNN in place of the undescribed MNIST classifier of the IP-GAN paper.

Zhang, Zhang, Song, Yang, Zuo, Acta Electronica Sinica, 2023, no. 4, pp. 879-884 (IP-GAN), reports
results for its own "M_CNN". We do not know its layers. The network here is ours, of the kind usual
for MNIST since Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks", 2016,
https://arxiv.org/abs/1608.04644, table 1. Results are not comparable with those of the IP-GAN
paper.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, check_size
from spearshield.types import Shape


@dataclass(frozen=True)
class MCNN(Architecture):
    """Two pairs of padded 3x3 convolutions with 32 and 64 channels, pooling, and a linear layer.

    Pixels are not normalised. Images from 4x4 pixels.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        check_size(shape, 4)
        channels, h, w = shape
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, 32, 3, padding=1),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(32, 32, 3, padding=1),
                relu2=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv3=nn.Conv2d(32, 64, 3, padding=1),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(64, 64, 3, padding=1),
                relu4=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc=nn.Linear(64 * (h // 4) * (w // 4), classes),
            )
        )
