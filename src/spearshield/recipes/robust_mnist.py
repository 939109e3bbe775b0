"""MNIST, L-inf 0.3: the most robust network that two cores train in an hour.

``robust`` is trained by ATTA, with four gradient steps in each of twenty epochs. ``pgd`` and
``learned_adversary`` have the same network and images and take equal time: six epochs of seven
steps from random starts, and ten epochs of three steps from the starts of a generator. The network
is a CNN behind a threshold of the pixels. Images are shifted by up to one pixel.

A network without the threshold, as a source of transferred attacks:

    spearshield run robust_mnist --set classifier=strided_cnn --set defences=pgd --out runs/plain
"""

from __future__ import annotations

from typing import Any

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.strided_cnn import StridedCNN
from spearshield.classifiers.thresholded import Thresholded
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.atta import ATTA
from spearshield.methods.learned_adversary import LearnedAdversary
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.augmentation import Augmentation
from spearshield.training.loop import Training

BUDGET = Linf(0.3)
EPOCH = 429
"""Batches of 128 in 55,000 training images."""
SHIFT = Augmentation(shift=1)


def schedule(epochs: int) -> dict[str, Any]:
    """The schedule of every training, over its own number of epochs."""
    return {
        "lr": 3e-3,
        "rise_steps": epochs * EPOCH // 10,
        "decay_steps": epochs * EPOCH,
        "warmup_steps": epochs * EPOCH * 3 // 20,
        "average": 0.998,
        "precision": "bfloat16",
        "watch_every": EPOCH,
    }


RECIPE = Recipe(
    data=MNIST(),
    classifier=Thresholded(StridedCNN(width=32), ramp=0.4),
    pretraining=Training(
        StandardTraining(lr=3e-3, decay_steps=2 * EPOCH, precision="bfloat16"),
        2 * EPOCH,
        name="standard",
    ),
    defences=(
        Training(
            ATTA(steps=4, step_size=1 / 3, augmentation=SHIFT, **schedule(20)),
            20 * EPOCH,
            FGSM(BUDGET),
            name="robust",
        ),
        Training(
            LearnedAdversary(BUDGET, gradient_steps=3, step_size=2 / 3, **schedule(10)),
            10 * EPOCH,
            name="learned_adversary",
            augmentation=SHIFT,
        ),
        Training(
            PGDAdversarialTraining(**schedule(6)),
            6 * EPOCH,
            PGD(BUDGET, steps=7, step_size=0.1, early_stop=False),
            name="pgd",
            augmentation=SHIFT,
        ),
    ),
    trials=(Trial(FGSM(BUDGET)), Trial(PGD(BUDGET, steps=100, step_size=0.03), images=1_000)),
)
