"""SVHN, L-inf 0.05: Wang and Yu with the networks, optimisers and numbers of their code.

The code adds 80,000 images of the extra set of SVHN to the training images; here there are none.
It takes days on a GPU.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.classifiers.wang_yu_resnet import WangYuResNet
from spearshield.datasets.svhn import SVHN
from spearshield.recipes.gan_adversarial_training_mnist_full import GAN as ON_MNIST
from spearshield.recipes.gan_adversarial_training_mnist_full import recipe
from spearshield.threat import Linf

GAN = replace(
    ON_MNIST,
    threat=Linf(0.05),
    generator="residual",
    generator_steps=5,
    decay_steps=200_000,
    weight_decay=1e-4,
)
RECIPE = recipe(SVHN(), WangYuResNet(stem_norm=False), GAN)
