"""CIFAR-10 as JPEG, ResNet-20, L-inf 8/255: CycleAdvGAN and AdvGAN; takes four hours on one core.

Training and test images are JPEG-compressed, so no number is comparable with published ones. To
limit the time without a GPU, the classifier is trained for nine epochs, the generators, of 16 to 64
channels, for three and a half epochs in batches of 32, and iterative attacks use 500 test images.
The generators are conditioned on the classifier's features, except ``adv_gan_uninformed``. One
black-box attack has a student of another architecture, the other of the classifier's own. A file
with weights of the classifier saves twenty minutes: ``--set pretraining=none --set weights=FILE``.
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
PGD_40 = PGD(BUDGET, steps=40, step_size=1 / 255, early_stop=False)
PGD_40_RESTARTS = PGD(BUDGET, steps=40, step_size=1 / 255, restarts=3)
PGD_5 = PGD(BUDGET, steps=5, step_size=2 / 255, early_stop=False)

CYCLE = CycleAdvGAN(
    BUDGET, 16, conditioned=True, cooperative=False, max_residual=16 / 255, decay_steps=STEPS
)
ADV_GAN = AdvGAN(BUDGET, 16, conditioned=True, decay_steps=STEPS)
UNCONDITIONED = AdvGAN(BUDGET, 16, decay_steps=STEPS)
OTHER_ARCHITECTURE = replace(ADV_GAN, student=MCNN(), student_steps=1_000)
SAME_ARCHITECTURE = replace(ADV_GAN, student=ResNet20(), student_steps=1_000)

DEFENCES = (
    Training(CYCLE, STEPS, FGSM(BUDGET), 32, name="cycle_fgsm", precompute=True),
    Training(CYCLE, STEPS, PGD_5, 32, name="cycle_pgd", precompute=True),
    Training(ADV_GAN, STEPS, batch_size=32),
    Training(UNCONDITIONED, STEPS, batch_size=32, name="adv_gan_uninformed"),
    Training(OTHER_ARCHITECTURE, STEPS, batch_size=32, name="adv_black_box"),
    Training(SAME_ARCHITECTURE, STEPS, batch_size=32, name="adv_black_box_sibling"),
)

RECIPE = Recipe(
    data=CIFAR10JPEG(),
    classifier=ResNet20(),
    pretraining=Training(StandardTraining(decay_steps=3_500), steps=3_500),
    defences=DEFENCES,
    trials=(
        Trial(FGSM(BUDGET), Oblivious()),
        *(Trial(AttackFrom(BUDGET, training.display_name), Oblivious()) for training in DEFENCES),
        *(Trial(attack, Oblivious(), images=500) for attack in (PGD_40, DeepFool(BUDGET))),
        Trial(PGD_40_RESTARTS, Adaptive(), images=500),
    ),
)
