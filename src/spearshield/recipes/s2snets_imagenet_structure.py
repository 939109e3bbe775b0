"""Tiny ImageNet: the first stage of S2SNets for photographs, an autoencoder without labels.

The network has a quarter of the paper's width and five stages. It is convolutional, so the recipe
`s2snets_imagenet` goes on from its weights with larger images. The training takes a quarter of an
hour on one core.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.datasets.tiny_imagenet_subset import TinyImageNetSubset
from spearshield.methods.s2snets import S2SNets
from spearshield.recipes.s2snets_cifar10_jpeg_structure import RECIPE as CIFAR10
from spearshield.training.augmentation import Augmentation
from spearshield.training.loop import Training

STEPS = 3_000

RECIPE = replace(
    CIFAR10,
    data=TinyImageNetSubset(),
    defences=(
        Training(
            S2SNets(width=16, stages=5, structure_steps=STEPS, decay_steps=STEPS),
            STEPS,
            batch_size=32,
            name="structure",
            augmentation=Augmentation(flip=True),
        ),
    ),
)
