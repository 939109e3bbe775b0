"""MNIST, model A, L-inf 0.3: Defense-GAN before three kinds of attacker; days on one core.

The GAN has half the width of the release and trains 40,000 steps, which are 8,000 updates of G
where the release takes 200,000, at three times its learning rate, which falls to zero. The search
is the release's: 200 steps from each of 10 starts, about a second of one core for each image and
each time it is asked. The oblivious attacker makes images on the bare classifier, the setting of
the paper's tables; the others attack through the search, by the gradient of its last steps and by
the identity in its place.
"""

from __future__ import annotations

from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.attacks.rand_fgsm import RandFGSM
from spearshield.classifiers.defense_gan_a import DefenseGANA
from spearshield.datasets.mnist import MNIST
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.methods.standard_training import StandardTraining
from spearshield.recipe import Recipe, Trial
from spearshield.threat import L2, Linf
from spearshield.training import Training
from spearshield.views import BPDA, Adaptive, Oblivious

BUDGET = Linf(0.3)
GAN_STEPS = 40_000

RECIPE = Recipe(
    data=MNIST(),
    classifier=DefenseGANA(),
    pretraining=Training(StandardTraining(decay_steps=2_145), steps=2_145),
    defences=(
        Training(
            DefenseGAN(width=32, lr=3e-4, decay_steps=GAN_STEPS), steps=GAN_STEPS, batch_size=50
        ),
    ),
    trials=(
        Trial(FGSM(BUDGET), Oblivious(), images=500),
        Trial(RandFGSM(BUDGET, alpha=0.05), Oblivious(), images=500),
        Trial(CarliniWagner(L2(4.0), steps=100, lr=0.1), Oblivious(), images=500),
        Trial(PGD(BUDGET, steps=40, step_size=0.02), Adaptive(), images=100),
        Trial(PGD(BUDGET, steps=40, step_size=0.02), BPDA(), images=100),
        Trial(PGD(L2(4.0), steps=40, step_size=0.4), BPDA(), images=100),
    ),
)
