"""MNIST, L-inf 0.3: a learned adversary and PGD training of one network, in equal time.

``pgd`` takes seven steps from random starts, ``learned_adversary`` three steps from the starts of a
generator, at the 128 hardest of 512 images. Each takes 25 minutes on one core. Images are shifted,
turned and distorted. The network is a CNN behind a threshold of the pixels.
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
from spearshield.methods.learned_adversary import LearnedAdversary
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.augmentation import Augmentation
from spearshield.training.loop import Training
from spearshield.training.warp import Warp

BUDGET = Linf(0.3)
EPOCH = 429
"""Batches of 128 in 55,000 training images."""
CHANGES = Augmentation(shift=1, warp=Warp())
POOL = 512
"""Images of which the hardest 128 are trained on."""
LEARNED_STEPS = 3_600
PGD_STEPS = 3_300


def schedule(steps: int) -> dict[str, Any]:
    """The schedule of every training, over its own number of steps."""
    return {
        "lr": 3e-3,
        "rise_steps": steps // 10,
        "decay_steps": steps,
        "warmup_steps": steps * 3 // 20,
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
            LearnedAdversary(
                BUDGET,
                gradient_steps=3,
                step_size=2 / 3,
                hardest=0.25,
                **schedule(LEARNED_STEPS),
            ),
            LEARNED_STEPS,
            batch_size=POOL,
            name="learned_adversary",
            augmentation=CHANGES,
        ),
        Training(
            PGDAdversarialTraining(**schedule(PGD_STEPS)),
            PGD_STEPS,
            PGD(BUDGET, steps=7, step_size=0.1, early_stop=False),
            name="pgd",
            augmentation=CHANGES,
        ),
    ),
    trials=(Trial(FGSM(BUDGET)), Trial(PGD(BUDGET, steps=100, step_size=0.03), images=1_000)),
)
