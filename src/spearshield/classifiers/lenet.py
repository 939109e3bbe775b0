"""LeNet with the layer widths of Caffe, a common MNIST classifier in adversarial papers.

Jia et al., "Caffe: Convolutional Architecture for Fast Feature Embedding", 2014,
https://arxiv.org/abs/1408.5093, network https://caffe.berkeleyvision.org/gathered/examples/mnist;
after LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition",
1998, https://doi.org/10.1109/5.726791.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, check_size
from spearshield.types import Shape


@dataclass(frozen=True)
class LeNet(Architecture):
    """Two unpadded convolutions, each with a maximum pool, and two linear layers.

    A ReLU follows each layer but the last; Caffe's file has only the one between the linear layers.
    Pixels are not normalised. Images from 16x16 pixels. 431,080 weights for MNIST.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        check_size(shape, 16)
        channels, h, w = shape
        rows, columns = (((side - 4) // 2 - 4) // 2 for side in (h, w))
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, 20, 5),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(20, 50, 5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(50 * rows * columns, 500),
                relu3=nn.ReLU(),
                fc2=nn.Linear(500, classes),
            )
        )
