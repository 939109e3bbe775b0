"""MNIST: Defense-GAN's generator G and an encoder E, whose weights `defense_gan_mnist` loads.

G has a quarter of the width of the release. It takes 50,000 steps, or 10,000 updates of G in place
of the release's 200,000, at five times the learning rate, which falls to zero. E takes another
20,000 steps. Both take an hour and a half on one core.
"""

from __future__ import annotations

from spearshield.attacks.fgsm import FGSM
from spearshield.classifiers.defense_gan_a import DefenseGANA
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.methods.encoder_projection import EncoderProjection
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.loop import Training
from spearshield.views import Oblivious

GAN_STEPS, ENCODER_STEPS = 50_000, 20_000

RECIPE = Recipe(
    data=MNIST(),
    classifier=DefenseGANA(),
    pretraining=Training(StandardTraining(decay_steps=1_000), steps=1_000, batch_size=100),
    defences=(
        Training(
            EncoderProjection(
                DefenseGAN(width=16, lr=5e-4, decay_steps=GAN_STEPS), GAN_STEPS, ENCODER_STEPS
            ),
            steps=GAN_STEPS + ENCODER_STEPS,
            batch_size=50,
            name="defense_gan",
        ),
    ),
    trials=(Trial(FGSM(Linf(0.3)), Oblivious(), images=200),),
    images=200,
    draws=1,
)
