"""MNIST, LeNet: Defense-GAN in the comparison of `inverse_perturbation_mnist`.

G and E are the weights that the recipe `defense_gan_mnist_generator_full` trains. For each image,
``defense_gan`` searches the latents of G, 25 steps from 10 starts; ``encoder_projection`` is
G(E(x)).
The search takes seconds for each image on a CPU, so the recipe attacks 200 images.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.recipes.defense_gan_mnist_full import FAST, ORIG
from spearshield.recipes.inverse_perturbation_mnist import RECIPE as WHOLE
from spearshield.training.loop import Training

RECIPE = replace(
    WHOLE,
    defences=(
        WHOLE.defences[0],
        Training(ORIG, steps=0, name="defense_gan"),
        Training(FAST, steps=0, name="encoder_projection"),
    ),
    trials=tuple(replace(trial, images=200) for trial in WHOLE.trials),
    images=200,
    draws=1,
    batch_size=100,
)
