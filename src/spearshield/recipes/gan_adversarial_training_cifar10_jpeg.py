"""CIFAR-10 as JPEG, L-inf 8/255: training against generators and PGD training, in equal time.

Training and test images are JPEG-compressed, so no number is comparable with published results. The
classifier is the ResNet of Wang and Yu without batch statistics at test time. The trainings have
different numbers of steps, so that each takes about as long as four epochs of PGD training on a
CPU, 20 minutes on one core; the times that were measured stand with the results. Images are
reflected and shifted by up to two pixels, as in the paper.
"""

from __future__ import annotations

from typing import Any

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.wang_yu_resnet import WangYuResNet
from spearshield.datasets.cifar10_jpeg import CIFAR10JPEG
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.fgsm_rs import FGSMRS
from spearshield.methods.gan_adversarial_training import GANAdversarialTraining
from spearshield.methods.l2l import L2L
from spearshield.methods.learned_adversary import LearnedAdversary
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.augmentation import Augmentation
from spearshield.training.loop import Training

BUDGET = Linf(8 / 255)
PGD_10 = PGD(BUDGET, steps=10, step_size=2 / 255, early_stop=False)
PGD_100 = PGD(BUDGET, steps=100, step_size=1 / 255, restarts=5)
AUGMENTATION = Augmentation(shift=2, flip=True)
EPOCH = 351
"""Batches of 128 in 45,000 training images."""


def schedule(steps: int) -> dict[str, Any]:
    """The schedule of every training, over its own number of steps."""
    return {
        "lr": 3e-3,
        "rise_steps": steps // 5,
        "decay_steps": steps,
        "average": 0.995,
        "precision": "bfloat16",
    }


PGD_STEPS = 4 * EPOCH
L2L_STEPS = 8 * EPOCH
ONE_STEP = 16 * EPOCH
GAN_STEPS = 5 * EPOCH

RECIPE = Recipe(
    data=CIFAR10JPEG(),
    classifier=WangYuResNet(),
    pretraining=Training(
        StandardTraining(**schedule(ONE_STEP)), ONE_STEP, augmentation=AUGMENTATION, name="standard"
    ),
    defences=(
        Training(
            PGDAdversarialTraining(**schedule(PGD_STEPS)),
            PGD_STEPS,
            PGD_10,
            name="pgd",
            augmentation=AUGMENTATION,
        ),
        Training(
            GANAdversarialTraining(
                BUDGET,
                generator="residual",
                width=16,
                generator_optimiser="adam",
                generator_lr=2e-3,
                gamma=0.0,
                **schedule(GAN_STEPS),
            ),
            GAN_STEPS,
            name="gan",
            augmentation=AUGMENTATION,
        ),
        Training(
            L2L(BUDGET, **schedule(L2L_STEPS)), L2L_STEPS, name="l2l", augmentation=AUGMENTATION
        ),
        Training(
            LearnedAdversary(BUDGET, **schedule(ONE_STEP)),
            ONE_STEP,
            name="learned_adversary",
            augmentation=AUGMENTATION,
        ),
        Training(
            FGSMRS(**schedule(ONE_STEP)),
            ONE_STEP,
            PGD_10,
            name="fgsm_rs",
            augmentation=AUGMENTATION,
        ),
    ),
    trials=(
        Trial(FGSM(BUDGET)),
        Trial(PGD(BUDGET, steps=10, step_size=2 / 255)),
        Trial(PGD_100, images=1_000),
    ),
)
