"""CelebA, 64 x 64, gender: Defense-GAN at the size of the release; takes days on a GPU.

Networks, steps and search are the release's: 200,000 updates of G, 200 steps from each of 2 starts.
The release's pixels are in [-1, 1], where the learning rate of the same search is 10.
"""

from __future__ import annotations

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.latent_search import LatentSearch
from spearshield.attacks.pgd import PGD
from spearshield.attacks.rand_fgsm import RandFGSM
from spearshield.classifiers.defense_gan_a import DefenseGANA
from spearshield.datasets.celeba import CelebA
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.methods.standard_training import StandardTraining
from spearshield.nets.latent_projection import LatentSearchSettings
from spearshield.threat import L2, Linf
from spearshield.training.loop import Training
from spearshield.views import BPDA, Adaptive, InRange, Oblivious

BUDGET = Linf(0.15)
"""Equal to 0.3 on the release's pixels in [-1, 1]."""
PGD_40 = PGD(BUDGET, steps=40, step_size=0.01)

RECIPE = Recipe(
    data=CelebA(),
    classifier=DefenseGANA(),
    pretraining=Training(StandardTraining(decay_steps=12_320), steps=12_320),
    defences=(
        Training(
            DefenseGAN(search=LatentSearchSettings(restarts=2, lr=40.0)),
            steps=1_000_000,
            batch_size=50,
        ),
    ),
    trials=(
        Trial(FGSM(BUDGET), Oblivious()),
        Trial(RandFGSM(BUDGET), Oblivious()),
        Trial(PGD_40, Adaptive(), images=100),
        Trial(PGD_40, BPDA(), images=100),
        Trial(LatentSearch(L2(4.0)), InRange(), images=100),
    ),
    images=1_000,
    draws=1,
    batch_size=100,
)
