"""MNIST, model A: Defense-GAN and its baselines before three kinds of attacker, in L-inf and L2.

G and E are those that the recipe `defense_gan_mnist_generator` leaves behind. The defences are FGSM
adversarial training at both budgets, MagNet, and Defense-GAN three times: with the classifier as
it is (Orig), with one that has learnt reconstructions (Rec), and as it is behind the fast search.
Each meets FGSM, RAND+FGSM and Carlini-Wagner made on the bare classifier, the substitutes B and E
that were learnt from its own answers, and attackers that know it, through the search and in the
range of G.
The classifier learns ten epochs, as in the release: after two it does as well on clean images
behind the search, but FGSM's images of it are harder to undo.
For the other models: `--set classifier=defense_gan_b`, and so on.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.latent_search import LatentSearch
from spearshield.attacks.orthogonal_pgd import OrthogonalPGD
from spearshield.attacks.pgd import PGD
from spearshield.attacks.rand_fgsm import RandFGSM
from spearshield.classifiers.defense_gan_a import DefenseGANA
from spearshield.classifiers.defense_gan_b import DefenseGANB
from spearshield.classifiers.defense_gan_e import DefenseGANE
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.defense_gan import FAST, DefenseGAN
from spearshield.methods.magnet import MagNet
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.methods.substitute import Substitute
from spearshield.nets.latent_projection import LatentSearchSettings
from spearshield.threat import L2, Linf
from spearshield.training.loop import Training
from spearshield.views import BPDA, Adaptive, DetectorAware, InRange, Oblivious

BUDGET, BROKEN = Linf(0.3), L2(4.0)
"""That of the paper, and that at which the defence was broken."""

WEIGHTS = "runs/defense_gan_mnist_generator/defense_gan/weights.safetensors"
ORIG = DefenseGAN(width=16, search=LatentSearchSettings(steps=25, z_std=1.0), weights=WEIGHTS)
REC = replace(ORIG, classifier="reconstructions")
QUICK = replace(ORIG, search=FAST)
HARDENED = PGDAdversarialTraining(decay_steps=2_000, warmup_steps=200)

DEFENCES = (
    Training(HARDENED, 2_000, FGSM(BUDGET), batch_size=100, name="fgsm_training"),
    Training(HARDENED, 2_000, FGSM(Linf(0.15)), batch_size=100, name="fgsm_training_half"),
    Training(MagNet(), steps=2_140, batch_size=256),
    Training(ORIG, steps=0, name="orig"),
    Training(REC, steps=4_000, batch_size=50, name="rec"),
    Training(QUICK, steps=0, name="fast"),
)

SUBSTITUTES = tuple(
    Training(Substitute(network), 60, FGSM(BUDGET), 150, trained_on, "validation", name)
    for trained_on in ("", *(defence.display_name for defence in DEFENCES))
    for name, network in (("substitute_b", DefenseGANB()), ("substitute_e", DefenseGANE()))
)

THROUGH = PGD(BUDGET, steps=40, step_size=0.02)
FAR = PGD(BROKEN, steps=40, step_size=0.4)

RECIPE = Recipe(
    data=MNIST(),
    classifier=DefenseGANA(),
    pretraining=Training(StandardTraining(), steps=11_000, batch_size=50),
    defences=(*DEFENCES, *SUBSTITUTES),
    trials=(
        Trial(FGSM(BUDGET), Oblivious()),
        Trial(RandFGSM(BUDGET, alpha=0.05), Oblivious()),
        Trial(
            CarliniWagner(BROKEN, steps=100, lr=0.1, searches=4, initial_c=1.0),
            Oblivious(),
            images=200,
        ),
        Trial(THROUGH, Adaptive(), images=100),
        Trial(THROUGH, BPDA(), images=100),
        Trial(THROUGH, BPDA("approximation"), images=100),
        Trial(FAR, BPDA(), images=100),
        Trial(FAR, BPDA("approximation"), images=100),
        Trial(LatentSearch(BROKEN), InRange(), images=100),
        Trial(OrthogonalPGD(BUDGET, steps=20, restarts=2), DetectorAware(), images=100),
    ),
    images=1_000,
    draws=1,
    batch_size=100,
)
