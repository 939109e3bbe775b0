"""CIFAR-10 as JPEG, L-inf 8/255: Wang and Yu with the networks and numbers of their code.

It takes days on a GPU; ``--set data=cifar10`` takes the images of the paper, and
``--set classifier.width=10`` its wide network.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.classifiers.wang_yu_resnet import WangYuResNet
from spearshield.datasets.cifar10_jpeg import CIFAR10JPEG
from spearshield.recipes.gan_adversarial_training_mnist_full import GAN as ON_MNIST
from spearshield.recipes.gan_adversarial_training_mnist_full import recipe
from spearshield.threat import Linf
from spearshield.training.augmentation import Augmentation

GAN = replace(
    ON_MNIST,
    threat=Linf(8 / 255),
    generator="residual",
    generator_steps=5,
    generator_optimiser="adam",
    generator_lr=2e-3,
    lr=0.1,
    decay_steps=200_000,
)
RECIPE = recipe(CIFAR10JPEG(), WangYuResNet(), GAN, Augmentation(shift=2, flip=True))
