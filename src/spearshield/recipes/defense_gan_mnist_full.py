"""MNIST, model A: the defences of `defense_gan_mnist` that use G and E, at the release's width.

G and E are the weights that the recipe `defense_gan_mnist_generator_full` trains. The classifier of
`rec` is trained on as many images as in `defense_gan_mnist`, in batches of 200.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.methods.defense_gan import DefenseGAN
from spearshield.methods.encoder_projection import EncoderProjection
from spearshield.nets.latent_projection import LatentSearchSettings
from spearshield.recipes.defense_gan_mnist import RECIPE as ON_A_QUARTER
from spearshield.training.loop import Training

ORIG = DefenseGAN(
    search=LatentSearchSettings(steps=25, z_std=1.0, chunk=5_000),
    weights="runs/defense_gan_mnist_generator_full/defense_gan/weights.safetensors",
)
REC = replace(ORIG, classifier="reconstructions")
FAST = EncoderProjection(ORIG, gan_steps=0, encoder_steps=0)

RECIPE = replace(
    ON_A_QUARTER,
    defences=(
        Training(ORIG, steps=0, name="orig"),
        Training(REC, steps=1_000, batch_size=200, name="rec"),
        Training(FAST, steps=0, name="fast"),
    ),
    batch_size=500,
)
