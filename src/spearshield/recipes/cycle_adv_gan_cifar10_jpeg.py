"""CIFAR-10 as JPEG, ResNet-20, L-inf 8/255: CycleAdvGAN and AdvGAN; four hours on one core.

Everything learns from and is tried on the JPEG version, so no number here compares with published
ones. For want of an accelerator the classifier sees nine epochs, the generators, of 16 to 64
channels, three and a half in batches of 32, and searches attack 500 test images. The generators see
what the classifier makes of an image, but for ``adv_gan_uninformed``. Of the two black boxes, one
is learnt by a student of another kind, one by a network of the classifier's own kind. A classifier
that is at hand saves the first twenty minutes: ``--set pretraining=none --set weights=FILE``.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.attacks.deepfool import DeepFool
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.m_cnn import MCNN
from spearshield.classifiers.resnet20 import ResNet20
from spearshield.datasets.cifar10_jpeg import CIFAR10JPEG
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.adv_gan import AdvGAN
from spearshield.methods.cycle_adv_gan import CycleAdvGAN
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.learned_attack import AttackFrom
from spearshield.training.loop import Training
from spearshield.views import Adaptive, Oblivious

BUDGET = Linf(8 / 255)
STEPS = 5_000
PLAIN = PGD(BUDGET, steps=40, step_size=1 / 255, early_stop=False)
STRONG = PGD(BUDGET, steps=40, step_size=1 / 255, restarts=3)
FAST = PGD(BUDGET, steps=5, step_size=2 / 255, early_stop=False)

CYCLE = CycleAdvGAN(
    BUDGET, 16, conditioned=True, cooperative=False, max_residual=16 / 255, decay_steps=STEPS
)
ADV = AdvGAN(BUDGET, 16, conditioned=True, decay_steps=STEPS)
UNINFORMED = AdvGAN(BUDGET, 16, decay_steps=STEPS)
STRANGER = replace(ADV, student=MCNN(), student_steps=1_000)
SIBLING = replace(ADV, student=ResNet20(), student_steps=1_000)

DEFENCES = (
    Training(CYCLE, STEPS, FGSM(BUDGET), 32, name="cycle_fgsm", precompute=True),
    Training(CYCLE, STEPS, FAST, 32, name="cycle_pgd", precompute=True),
    Training(ADV, STEPS, batch_size=32),
    Training(UNINFORMED, STEPS, batch_size=32, name="adv_gan_uninformed"),
    Training(STRANGER, STEPS, batch_size=32, name="adv_black_box"),
    Training(SIBLING, STEPS, batch_size=32, name="adv_black_box_sibling"),
)

RECIPE = Recipe(
    data=CIFAR10JPEG(),
    classifier=ResNet20(),
    pretraining=Training(StandardTraining(decay_steps=3_500), steps=3_500),
    defences=DEFENCES,
    trials=(
        Trial(FGSM(BUDGET), Oblivious()),
        *(Trial(AttackFrom(BUDGET, training.display_name), Oblivious()) for training in DEFENCES),
        *(Trial(attack, Oblivious(), images=500) for attack in (PLAIN, DeepFool(BUDGET))),
        Trial(STRONG, Adaptive(), images=500),
    ),
)
