"""MNIST, LeNet: IP-GAN, UIPD, GRIP-GAN, and the purifiers that the paper compares them with.

Two families of attacks on the bare classifier: gradient-based, L-inf 0.3 (FGSM, BIM, MI-FGSM, PGD);
optimisation-based (Carlini-Wagner and DeepFool, L2 of at most 4; a universal perturbation, L-inf
0.3). IP-GAN and APE-GAN are trained on FGSM and PGD images; the other attacks are never seen in
training. Each training image is attacked once. DAE and GRIP-GAN are trained on noise, UIPD on clean
images.

``ip_gan_adaptive`` and ``ip_gan_joint`` are trained on attacks that differentiate the purifier, the
second one together with the classifier; ``pgd`` is the classifier's own adversarial training, on
as many images. ``ip_gan_on_pgd`` is a purifier in front of that classifier, trained on attacks that
differentiate both. Adaptive attackers attack every defence.

For the other classifiers of the paper: ``--set classifier=alexnet`` and ``--set classifier=m_cnn``.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.attacks.bim import BIM
from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.attacks.deepfool import DeepFool
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.mi_fgsm import MIFGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.lenet import LeNet
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.ape_gan import APEGAN
from spearshield.methods.dae import DAE
from spearshield.methods.grip_gan import GRIPGAN
from spearshield.methods.ip_gan import IPGAN
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.methods.uap import UAP
from spearshield.methods.uipd import UIPD
from spearshield.threat import L2, Linf
from spearshield.training.learned_attack import AttackFrom
from spearshield.training.loop import Training
from spearshield.training.mixture import Mixture
from spearshield.views import Adaptive, Oblivious

BUDGET = Linf(0.3)
L2_BUDGET = L2(4.0)
EPOCH = 429
"""Batches of 128 in 55,000 training images."""
STEPS = 4 * EPOCH
ADAPTIVE_STEPS = 2 * EPOCH

PGD_10 = PGD(BUDGET, steps=10, step_size=0.075, early_stop=False)
PGD_7 = PGD(BUDGET, steps=7, step_size=0.1, early_stop=False)
SEEN = Mixture(BUDGET, (FGSM(BUDGET), PGD_10))
"""The attacks that IP-GAN and APE-GAN are trained on."""

IP_GAN = IPGAN(width=16, blocks=2, clean_share=0.3, decay_steps=STEPS)
GRIP_GAN = GRIPGAN(width=16, blocks=2, noise=1.0, decay_steps=STEPS)
ADAPTIVE = replace(
    IP_GAN,
    width=8,
    view="adaptive",
    warmup_steps=ADAPTIVE_STEPS // 4,
    decay_steps=ADAPTIVE_STEPS,
    clean_share=0.0,
)

GRADIENT_BASED = (
    FGSM(BUDGET),
    BIM(BUDGET),
    MIFGSM(BUDGET),
    PGD(BUDGET, steps=40, step_size=0.02, early_stop=False),
)
OPTIMISATION_BASED = (
    CarliniWagner(L2_BUDGET, steps=100, lr=0.1, searches=4, initial_c=1.0),
    DeepFool(L2_BUDGET),
)

UAP_TRIAL = Trial(AttackFrom(BUDGET, "uap"), Oblivious())

RECIPE = Recipe(
    data=MNIST(),
    classifier=LeNet(),
    pretraining=Training(StandardTraining(decay_steps=5 * EPOCH), 5 * EPOCH, name="standard"),
    defences=(
        Training(UAP(BUDGET), EPOCH, name="uap"),
        Training(IP_GAN, STEPS, SEEN, name="ip_gan", precompute=True),
        Training(GRIP_GAN, STEPS, name="grip_gan"),
        Training(UIPD(), EPOCH, name="uipd"),
        Training(APEGAN(width=32), STEPS, SEEN, name="ape_gan", precompute=True),
        Training(DAE(width=16), STEPS, name="dae"),
        Training(ADAPTIVE, ADAPTIVE_STEPS, PGD_7, name="ip_gan_adaptive"),
        Training(replace(ADAPTIVE, joint=True), ADAPTIVE_STEPS, PGD_7, name="ip_gan_joint"),
        Training(
            PGDAdversarialTraining(decay_steps=ADAPTIVE_STEPS, warmup_steps=ADAPTIVE_STEPS // 4),
            ADAPTIVE_STEPS,
            PGD_7,
            name="pgd",
        ),
        Training(ADAPTIVE, ADAPTIVE_STEPS, PGD_7, trained_on="pgd", name="ip_gan_on_pgd"),
    ),
    trials=(
        *(Trial(attack, Oblivious()) for attack in GRADIENT_BASED),
        *(Trial(attack, Oblivious(), images=1_000) for attack in OPTIMISATION_BASED),
        UAP_TRIAL,
        Trial(FGSM(BUDGET), Adaptive()),
        Trial(PGD(BUDGET, steps=40, step_size=0.02, restarts=3), Adaptive(), images=1_000),
    ),
)
