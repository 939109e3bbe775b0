"""MNIST, model A, L-inf 0.3 and L2 4.0: Defense-GAN and its baselines, three kinds of attacker.

G and E are the weights that the recipe `defense_gan_mnist_generator` trains. The defences are:

    fgsm_training, fgsm_training_half  FGSM adversarial training at L-inf 0.3 and 0.15
    magnet                             MagNet
    orig                               Defense-GAN with the given classifier
    rec                                Defense-GAN with a classifier trained on reconstructions
    fast                               the encoder projection with the given classifier

The attackers are: FGSM, RAND+FGSM and Carlini-Wagner on the bare classifier; the substitutes B and
E, trained on the labels of each victim; and adaptive attacks, through the purifier, in the range of
G, and against the detectors. The classifier is trained for ten epochs, as in the release: after two
epochs its clean accuracy behind the search is as high, but FGSM's images are harder to purify.
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
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.methods.encoder_projection import EncoderProjection
from spearshield.methods.magnet import MagNet
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.methods.substitute import Substitute
from spearshield.nets.latent_projection import LatentSearchSettings
from spearshield.threat import L2, Linf
from spearshield.training.loop import Training
from spearshield.views import BPDA, Adaptive, DetectorAware, InRange, Oblivious

BUDGET = Linf(0.3)
"""The threat model of the paper."""
L2_BUDGET = L2(4.0)
"""The threat model in which Athalye, Carlini and Wagner broke the defence."""

FGSM_TRAINING = PGDAdversarialTraining(decay_steps=2_000, warmup_steps=200)
SUBSTITUTES = {"substitute_b": DefenseGANB(), "substitute_e": DefenseGANE()}


def defences(weights: str) -> tuple[Training, ...]:
    """The defences, and the substitutes for the bare classifier and for each of them.

    Args:
        weights: File with the weights of G and E.
    """
    orig = DefenseGAN(width=16, search=LatentSearchSettings(steps=25, z_std=1.0), weights=weights)
    rec = replace(orig, classifier="reconstructions")
    fast = EncoderProjection(orig, gan_steps=0, encoder_steps=0)
    own = (
        Training(FGSM_TRAINING, 2_000, FGSM(BUDGET), batch_size=100, name="fgsm_training"),
        Training(FGSM_TRAINING, 2_000, FGSM(Linf(0.15)), batch_size=100, name="fgsm_training_half"),
        Training(MagNet(), steps=2_140, batch_size=256),
        Training(orig, steps=0, name="orig"),
        Training(rec, steps=4_000, batch_size=50, name="rec"),
        Training(fast, steps=0, name="fast"),
    )
    substitutes = tuple(
        Training(Substitute(network), 60, FGSM(BUDGET), 150, trained_on, "validation", name)
        for trained_on in ("", *(training.display_name for training in own))
        for name, network in SUBSTITUTES.items()
    )
    return own + substitutes


CW_L2 = CarliniWagner(L2_BUDGET, steps=100, lr=0.1, searches=4, initial_c=1.0)
PGD_LINF = PGD(BUDGET, steps=40, step_size=0.02)
PGD_L2 = PGD(L2_BUDGET, steps=40, step_size=0.4)

RECIPE = Recipe(
    data=MNIST(),
    classifier=DefenseGANA(),
    pretraining=Training(StandardTraining(), steps=11_000, batch_size=50),
    defences=defences("runs/defense_gan_mnist_generator/defense_gan/weights.safetensors"),
    trials=(
        Trial(FGSM(BUDGET), Oblivious()),
        Trial(RandFGSM(BUDGET, alpha=0.05), Oblivious()),
        Trial(CW_L2, Oblivious(), images=200),
        Trial(PGD_LINF, Adaptive(), images=100),
        Trial(PGD_LINF, BPDA(), images=100),
        Trial(PGD_LINF, BPDA("approximation"), images=100),
        Trial(PGD_L2, BPDA(), images=100),
        Trial(PGD_L2, BPDA("approximation"), images=100),
        Trial(LatentSearch(L2_BUDGET), InRange(), images=100),
        Trial(OrthogonalPGD(BUDGET, steps=20, restarts=2), DetectorAware(), images=100),
    ),
    images=1_000,
    draws=1,
    batch_size=100,
)
