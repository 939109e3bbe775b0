"""MNIST, L-inf 0.3: a wider network with a proof for most images, for one accelerator.

As ``certified_mnist``, with the CNN7 of Shi et al. at half its width. The training takes minutes on
a GPU and five hours on one core.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.attacks.fgsm import FGSM
from spearshield.classifiers.cnn7 import CNN7
from spearshield.classifiers.thresholded import Thresholded
from spearshield.methods.ibp import IBP
from spearshield.recipes.certified_mnist import BUDGET
from spearshield.recipes.certified_mnist import RECIPE as SMALL
from spearshield.training.loop import Training

STEPS = 12_000

RECIPE = replace(
    SMALL,
    classifier=Thresholded(CNN7(width=32), thresholds=(0.34, 0.5, 0.66), ramp=0.06),
    defences=(
        Training(
            IBP(
                kappa=0.0,
                interval_weights=True,
                lr=1e-3,
                rise_steps=600,
                hold_steps=4_800,
                decay_steps=7_200,
                warmup_steps=4_000,
            ),
            STEPS,
            FGSM(BUDGET),
            batch_size=256,
        ),
    ),
    batch_size=1_000,
)
