"""LeNet-5 with ReLU and maximum pooling, on images resized to 32x32.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998,
https://doi.org/10.1109/5.726791. Names, activations and pooling fit the MNIST weights of
https://github.com/csinva/gan-vae-pretrained-pytorch. The paper uses a scaled tanh, average pooling
and a sparsely connected second convolution.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture
from spearshield.types import Shape


@dataclass(frozen=True)
class LeNet5(Architecture):
    """Three 5x5 convolutions of 6, 16 and 120 channels, and two linear layers.

    Pixels are not normalised. Images of any size. 61,706 weights for MNIST.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        convnet = OrderedDict(
            c1=nn.Conv2d(shape[0], 6, 5),
            relu1=nn.ReLU(),
            s2=nn.MaxPool2d(2),
            c3=nn.Conv2d(6, 16, 5),
            relu3=nn.ReLU(),
            s4=nn.MaxPool2d(2),
            c5=nn.Conv2d(16, 120, 5),
            relu5=nn.ReLU(),
        )
        fc = OrderedDict(f6=nn.Linear(120, 84), relu6=nn.ReLU(), f7=nn.Linear(84, classes))
        return nn.Sequential(
            OrderedDict(
                resize=nn.Upsample((32, 32), mode="bilinear"),
                convnet=nn.Sequential(convnet),
                flatten=nn.Flatten(),
                fc=nn.Sequential(fc),
            )
        )
