"""MNIST: the generator G and the encoder E of `defense_gan_mnist_full`, at the release's width.

The recipe is `defense_gan_mnist_generator` with four times the width and batches of 250 images.

    network  steps   images         updates
    G and D  50,500  12.6 million   10,100 of G, 50,500 of D
    E        10,000   2.5 million   10,000

The training takes days on a CPU and about ten minutes on a GPU, or three and a half with CUDA
graphs, as in `benchmarks/gpu_defense_gan_generator.py`.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.methods.defense_gan import DefenseGAN
from spearshield.methods.encoder_projection import EncoderProjection
from spearshield.recipes.defense_gan_mnist_generator import RECIPE as ON_A_QUARTER
from spearshield.training.loop import Training

GAN_STEPS, ENCODER_STEPS = 50_500, 10_000

RECIPE = replace(
    ON_A_QUARTER,
    defences=(
        Training(
            EncoderProjection(DefenseGAN(lr=5e-4, decay_steps=GAN_STEPS), GAN_STEPS, ENCODER_STEPS),
            steps=GAN_STEPS + ENCODER_STEPS,
            batch_size=250,
            name="defense_gan",
        ),
    ),
)
