"""CIFAR-10 as JPEG, L-inf 8/255: training against generators and PGD training, in equal time.

Training and test images are JPEG-compressed, so no number is comparable with published results. The
classifier is the ResNet of Wang and Yu; batch normalisation uses running averages at test time. The
trainings have different numbers of steps, so that each takes about half an hour on one core. Images
are reflected and shifted by up to two pixels, as in the paper.
"""

from __future__ import annotations

from typing import Any

from spearshield.adversary import Attack
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.wang_yu_resnet import WangYuResNet
from spearshield.datasets.cifar10_jpeg import CIFAR10JPEG
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.method import Method
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


def schedule(steps: int) -> dict[str, Any]:
    """The schedule of every training, over its own number of steps."""
    return {
        "lr": 3e-3,
        "rise_steps": steps // 5,
        "decay_steps": steps,
        "average": 0.995,
        "precision": "bfloat16",
    }


def training(method: Method, steps: int, name: str, attack: Attack | None = None) -> Training:
    """A training in batches of 128, on shifted and reflected images."""
    return Training(method, steps, attack, name=name, augmentation=AUGMENTATION)


PGD_STEPS = 840
GAN_STEPS = 600
L2L_STEPS = 1_560
ONE_STEP = 4_200

GAN = GANAdversarialTraining(
    BUDGET,
    generator="residual",
    width=16,
    generator_optimiser="adam",
    generator_lr=2e-3,
    gamma=0.0,
    **schedule(GAN_STEPS),
)

LEARNED = LearnedAdversary(BUDGET, step_size=2.0, **schedule(ONE_STEP))

RECIPE = Recipe(
    data=CIFAR10JPEG(),
    classifier=WangYuResNet(),
    pretraining=training(StandardTraining(**schedule(ONE_STEP)), ONE_STEP, "standard"),
    defences=(
        training(PGDAdversarialTraining(**schedule(PGD_STEPS)), PGD_STEPS, "pgd", PGD_10),
        training(GAN, GAN_STEPS, "gan"),
        training(L2L(BUDGET, **schedule(L2L_STEPS)), L2L_STEPS, "l2l"),
        training(LEARNED, ONE_STEP, "learned_adversary"),
        training(FGSMRS(**schedule(ONE_STEP)), ONE_STEP, "fgsm_rs", PGD_10),
    ),
    trials=(
        Trial(FGSM(BUDGET)),
        Trial(PGD(BUDGET, steps=10, step_size=2 / 255)),
        Trial(PGD_100, images=1_000),
    ),
)
