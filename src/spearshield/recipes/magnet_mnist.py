"""MNIST, LeNet, L-inf 0.3: MagNet under attacks that ignore its detectors, and one that does not.

An epoch is 214 batches of 256, from 55,000 training images; 5,000 are for validation. The release
trains for 100 epochs, this recipe for 10, so that a seed trains in ten minutes on one core. The
worst case is over the first 1,000 test images, on which all attacks are evaluated.
"""

from __future__ import annotations

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.orthogonal_pgd import OrthogonalPGD
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.lenet import LeNet
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.magnet import MagNet
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.loop import Training
from spearshield.views import Adaptive, DetectorAware, Oblivious

BUDGET = Linf(0.3)
PGD_40 = PGD(BUDGET, steps=40, step_size=0.01, early_stop=False)

RECIPE = Recipe(
    data=MNIST(),
    classifier=LeNet(),
    pretraining=Training(StandardTraining(decay_steps=2_145), steps=2_145),
    defences=(Training(MagNet(), steps=2_140, batch_size=256),),
    trials=(
        Trial(FGSM(BUDGET), Oblivious()),
        Trial(PGD_40, Oblivious(), images=1_000),
        Trial(PGD_40, Adaptive(), images=1_000),
        Trial(OrthogonalPGD(BUDGET), DetectorAware(), images=1_000),
    ),
)
