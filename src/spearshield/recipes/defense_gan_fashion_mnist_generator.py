"""Fashion-MNIST: G and E, whose weights `defense_gan_fashion_mnist` loads; as for MNIST."""

from __future__ import annotations

from dataclasses import replace

from spearshield.datasets.fashion_mnist import FashionMNIST
from spearshield.recipes.defense_gan_mnist_generator import RECIPE as ON_MNIST

RECIPE = replace(ON_MNIST, data=FashionMNIST())
