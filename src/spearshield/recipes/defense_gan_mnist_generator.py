"""MNIST: the generator of Defense-GAN and an encoder, which `defense_gan_mnist` takes from here.

G has a quarter of the width of the release and trains 50,000 steps, which are 10,000 updates of G
where the release takes 200,000, at five times its learning rate, which falls to zero; E another
20,000: an hour and a half on one core. The search is the release's, 200 steps from each of 10
starts.
"""

from __future__ import annotations

from spearshield.attacks.fgsm import FGSM
from spearshield.classifiers.defense_gan_a import DefenseGANA
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.defense_gan import DefenseGAN
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
            DefenseGAN(
                width=16,
                lr=5e-4,
                decay_steps=GAN_STEPS,
                gan_steps=GAN_STEPS,
                encoder_steps=ENCODER_STEPS,
            ),
            steps=GAN_STEPS + ENCODER_STEPS,
            batch_size=50,
        ),
    ),
    trials=(Trial(FGSM(Linf(0.3)), Oblivious(), images=200),),
    images=200,
    draws=1,
)
