"""Fashion-MNIST, model A: Defense-GAN, its baselines and its attackers, as for MNIST.

G and E are those that the recipe `defense_gan_fashion_mnist_generator` leaves behind.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.datasets.fashion_mnist import FashionMNIST
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.recipes.defense_gan_mnist import RECIPE as ON_MNIST

WEIGHTS = "runs/defense_gan_fashion_mnist_generator/defense_gan/weights.safetensors"

RECIPE = replace(
    ON_MNIST,
    data=FashionMNIST(),
    defences=tuple(
        replace(training, method=replace(training.method, weights=WEIGHTS))
        if isinstance(training.method, DefenseGAN)
        else training
        for training in ON_MNIST.defences
    ),
)
