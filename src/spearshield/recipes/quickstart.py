"""The embedded digits: a classifier and APE-GAN, two kinds of attacker; takes two minutes."""

from __future__ import annotations

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.m_cnn import MCNN
from spearshield.datasets.digits import Digits
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.ape_gan import APEGAN
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.loop import Training
from spearshield.views import BPDA, Adaptive, Oblivious

BUDGET = Linf(0.2)

RECIPE = Recipe(
    data=Digits(),
    classifier=MCNN(),
    pretraining=Training(StandardTraining(), steps=300, batch_size=64),
    defences=(Training(APEGAN(), steps=400, batch_size=64, learn_from=FGSM(BUDGET)),),
    trials=(
        Trial(FGSM(BUDGET), Oblivious()),
        Trial(PGD(BUDGET, steps=40, early_stop=False), Oblivious()),
        Trial(FGSM(BUDGET), Adaptive()),
        Trial(PGD(BUDGET, steps=40, restarts=5), Adaptive()),
        Trial(PGD(BUDGET, steps=40, restarts=5), BPDA()),
    ),
)
