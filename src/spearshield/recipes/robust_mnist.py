"""MNIST, L-inf 0.3: the most robust network that two cores train in an hour.

A CNN behind a threshold of pixels is trained by ATTA, four steps in each of twenty epochs, on
images that are shifted by up to one pixel. ``pgd`` has the same network, images and schedule and
seven steps of PGD from a random start, in a tenth of the epochs. ``no_threshold`` is ATTA on a
network without the threshold, from which attacks are transferred.
"""

from __future__ import annotations

from typing import Any

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.threshold_cnn import ThresholdCNN
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.atta import ATTA
from spearshield.threat import Linf
from spearshield.training.augmentation import Augmentation
from spearshield.training.loop import Training

BUDGET = Linf(0.3)
EPOCH = 429
"""Batches of 128 in 55,000 training images."""
STEPS = 20 * EPOCH
SCHEDULE: dict[str, Any] = {
    "lr": 3e-3,
    "rise_steps": 2 * EPOCH,
    "decay_steps": STEPS,
    "warmup_steps": 3 * EPOCH,
    "average": 0.998,
    "precision": "bfloat16",
    "watch_every": EPOCH,
}

RECIPE = Recipe(
    data=MNIST(),
    classifier=ThresholdCNN(width=32, ramp=0.4),
    pretraining=None,
    defences=(
        Training(
            ATTA(steps=4, step_size=1 / 3, augmentation=Augmentation(shift=1), **SCHEDULE),
            STEPS,
            FGSM(BUDGET),
            name="robust",
        ),
    ),
    trials=(Trial(FGSM(BUDGET)), Trial(PGD(BUDGET, steps=100, step_size=0.03), images=1_000)),
)
