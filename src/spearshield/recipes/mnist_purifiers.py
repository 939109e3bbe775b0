"""MNIST, LeNet, L-inf 0.3: APE-GAN, DAE and PGD adversarial training, two kinds of attacker.

APE-GAN is trained on FGSM's images and DAE on noise, as in their papers. The oblivious attacker
attacks the bare classifier without early stopping; the adaptive attacker differentiates through the
purifier. An epoch is 859 batches of 64, or 429 of 128, from 55,000 training images; 5,000 are for
validation. APE-GAN has half the width of its release and trains for one epoch in place of two, and
adversarial training takes three large inner steps, so that a seed trains in half an hour on one
core.
"""

from __future__ import annotations

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.lenet import LeNet
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.ape_gan import APEGAN
from spearshield.methods.dae import DAE
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.loop import Training
from spearshield.views import BPDA, Adaptive, Oblivious

BUDGET = Linf(0.3)
PGD_40 = PGD(BUDGET, steps=40, step_size=0.01, early_stop=False)
PGD_40_RESTARTS = PGD(BUDGET, steps=40, step_size=0.01, restarts=3)
PGD_200 = PGD(BUDGET, steps=200, step_size=0.02)

RECIPE = Recipe(
    data=MNIST(),
    classifier=LeNet(),
    pretraining=Training(StandardTraining(decay_steps=2_145), steps=2_145),
    defences=(
        Training(APEGAN(width=32), steps=859, learn_from=FGSM(BUDGET), batch_size=64),
        Training(DAE(width=16), steps=858),
        Training(
            PGDAdversarialTraining(hold_steps=2_145, decay_steps=2_145, warmup_steps=1_072),
            steps=4_290,
            learn_from=PGD(BUDGET, steps=3, step_size=0.15, early_stop=False),
        ),
    ),
    trials=(
        Trial(FGSM(BUDGET), Oblivious()),
        Trial(PGD_40, Oblivious()),
        Trial(FGSM(BUDGET), Adaptive()),
        Trial(PGD_40_RESTARTS, Adaptive(), images=1_000),
        Trial(PGD_40_RESTARTS, BPDA(), images=1_000),
        Trial(PGD_200, Adaptive(), images=1_000),
    ),
)
