"""MNIST, L-inf 0.3: a network with a proof for most images, by interval bound propagation.

The small network of Gowal et al. behind three thresholds of the pixels. Its certificate is computed
by ``spearshield audit RUN/ibp``. The training takes about ten minutes on one core.
"""

from __future__ import annotations

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.dm_small import DMSmall
from spearshield.classifiers.thresholded import Thresholded
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.ibp import IBP
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.loop import Training

BUDGET = Linf(0.3)
STEPS = 30_000
CLASSIFIER = Thresholded(DMSmall(), thresholds=(0.34, 0.5, 0.66), ramp=0.06)
METHOD = IBP(
    kappa=0.0, lr=2e-3, rise_steps=600, hold_steps=6_000, decay_steps=24_000, warmup_steps=9_000
)

RECIPE = Recipe(
    data=MNIST(),
    classifier=CLASSIFIER,
    pretraining=Training(StandardTraining(decay_steps=1_716), 1_716, name="standard"),
    defences=(Training(METHOD, STEPS, FGSM(BUDGET), batch_size=64),),
    trials=(Trial(FGSM(BUDGET)), Trial(PGD(BUDGET, steps=100, step_size=0.03), images=1_000)),
)
