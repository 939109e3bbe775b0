"""Fashion-MNIST, model A: Defense-GAN, its baselines and the attacks of `defense_gan_mnist`.

G and E are the weights that the recipe `defense_gan_fashion_mnist_generator` trains.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.datasets.fashion_mnist import FashionMNIST
from spearshield.recipes.defense_gan_mnist import RECIPE as ON_MNIST
from spearshield.recipes.defense_gan_mnist import defences

RECIPE = replace(
    ON_MNIST,
    data=FashionMNIST(),
    defences=defences("runs/defense_gan_fashion_mnist_generator/defense_gan/weights.safetensors"),
)
