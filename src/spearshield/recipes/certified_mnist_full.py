"""MNIST, L-inf 0.3: a wider network with a proof for most images, for one accelerator.

As ``certified_mnist``, with the CNN7 of Shi et al. at half its width. The training takes minutes on
a GPU and five hours on one core.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.attacks.fgsm import FGSM
from spearshield.classifiers.cnn7 import CNN7
from spearshield.recipes.certified_mnist import BUDGET, CLASSIFIER, METHOD
from spearshield.recipes.certified_mnist import RECIPE as SMALL
from spearshield.training.loop import Training

STEPS = 12_000
WIDE_METHOD = replace(
    METHOD, interval_weights=True, lr=1e-3, hold_steps=4_800, decay_steps=7_200, warmup_steps=4_000
)

RECIPE = replace(
    SMALL,
    classifier=replace(CLASSIFIER, inner=CNN7(width=32)),
    defences=(Training(WIDE_METHOD, STEPS, FGSM(BUDGET), batch_size=256),),
    batch_size=1_000,
)
