"""MNIST, LeNet, L-inf 0.3: CycleAdvGAN from four attacks, as a black box, in rounds; AdvGAN.

Each CycleAdvGAN leaves an attack and a purifier. Attacks that were learnt on the bare classifier
are tried on all victims, obliviously, so each purifier meets the attack it learnt from, its own,
and ones it did not see. The attacker who knows a purifier goes through it by PGD, or by the attack
of the next round, which was learnt against the pair. Two epochs of 859 batches of 64; 55,000
training images, which are attacked once, 5,000 set aside. The attack of the black boxes has those
images and their labels, and of the classifier nothing but its probabilities. Two hours on one core
for a seed, half an hour of them for Carlini-Wagner's images; that attack's budget is in L2, so it
has a worst case of its own.
"""

from __future__ import annotations

from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.attacks.deepfool import DeepFool
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.lenet import LeNet
from spearshield.classifiers.m_cnn import MCNN
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.adv_gan import AdvGAN
from spearshield.methods.cycle_adv_gan import CycleAdvGAN
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import L2, Linf
from spearshield.training.learned_attack import AttackFrom
from spearshield.training.loop import Training
from spearshield.views import Adaptive, Oblivious

BUDGET = Linf(0.3)
STEPS = 1_718
FAST = PGD(BUDGET, steps=10, step_size=0.06, early_stop=False)
PLAIN = PGD(BUDGET, steps=40, step_size=0.01, early_stop=False)
STRONG = PGD(BUDGET, steps=40, step_size=0.01, restarts=3)
FAR = L2(4.0)
NEAREST = CarliniWagner(FAR, steps=30, lr=0.1, searches=1, initial_c=10.0)

CYCLE = CycleAdvGAN(BUDGET, decay_steps=STEPS)
BLACK_CYCLE = CycleAdvGAN(BUDGET, decay_steps=STEPS, student=MCNN(), student_steps=300)
ADV = AdvGAN(BUDGET, decay_steps=STEPS)
BLACK_ADV = AdvGAN(BUDGET, decay_steps=STEPS, student=MCNN(), student_steps=300)

DEFENCES = (
    Training(CYCLE, STEPS, FGSM(BUDGET), 64, name="cycle_fgsm", precompute=True),
    Training(CYCLE, STEPS, FAST, 64, name="cycle_pgd", precompute=True),
    Training(CYCLE, STEPS, DeepFool(BUDGET), 64, name="cycle_deepfool", precompute=True),
    Training(CYCLE, STEPS, NEAREST, 64, name="cycle_cw", precompute=True),
    Training(BLACK_CYCLE, STEPS, FGSM(BUDGET), 64, name="cycle_black_box"),
    Training(CYCLE, STEPS, FAST, 64, trained_on="cycle_pgd", name="round_2", precompute=True),
    Training(CYCLE, STEPS, FAST, 64, trained_on="round_2", name="round_3", precompute=True),
    Training(ADV, STEPS, batch_size=64),
    Training(BLACK_ADV, STEPS, batch_size=64, name="adv_black_box"),
)

RECIPE = Recipe(
    data=MNIST(),
    classifier=LeNet(),
    pretraining=Training(StandardTraining(decay_steps=2_145), steps=2_145),
    defences=DEFENCES,
    trials=(
        Trial(FGSM(BUDGET), Oblivious()),
        *(
            Trial(AttackFrom(BUDGET, training.display_name), Oblivious())
            for training in DEFENCES
            if not training.trained_on
        ),
        *(Trial(attack, Oblivious(), images=2_000) for attack in (PLAIN, DeepFool(BUDGET))),
        Trial(STRONG, Adaptive(), images=500),
        Trial(NEAREST, Oblivious(), images=500),
        Trial(PGD(FAR, steps=40, step_size=0.4), Adaptive(), images=500),
    ),
)
