"""MNIST, LeNet, L-inf 0.3: CycleAdvGAN on four attacks, with a black box, and in rounds; AdvGAN.

Each CycleAdvGAN yields an attack and a purifier. Attacks that were trained on the bare classifier
are evaluated on all victims, obliviously: each purifier is tested with the attack that it was
trained on, its own attack, and unseen ones. The adaptive attacks on a purifier are PGD, and the
attack of the next round, which was trained on the defended classifier. A training is two epochs of
859 batches of 64, from 55,000 training images that are attacked once; 5,000 are for validation. The
black-box attacks use these images, their labels, and the probabilities of the classifier. A seed
takes two hours on one core, half an hour for the Carlini-Wagner images; that attack's budget is in
L2, so it has a worst case of its own.
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
PGD_10 = PGD(BUDGET, steps=10, step_size=0.06, early_stop=False)
PGD_40 = PGD(BUDGET, steps=40, step_size=0.01, early_stop=False)
PGD_40_RESTARTS = PGD(BUDGET, steps=40, step_size=0.01, restarts=3)
L2_BUDGET = L2(4.0)
CW_L2 = CarliniWagner(L2_BUDGET, steps=30, lr=0.1, searches=1, initial_c=10.0)
PGD_L2 = PGD(L2_BUDGET, steps=40, step_size=0.4)

CYCLE = CycleAdvGAN(BUDGET, decay_steps=STEPS)
CYCLE_BLACK_BOX = CycleAdvGAN(BUDGET, decay_steps=STEPS, student=MCNN(), student_steps=300)
ADV_GAN = AdvGAN(BUDGET, decay_steps=STEPS)
ADV_GAN_BLACK_BOX = AdvGAN(BUDGET, decay_steps=STEPS, student=MCNN(), student_steps=300)

DEFENCES = (
    Training(CYCLE, STEPS, FGSM(BUDGET), 64, name="cycle_fgsm", precompute=True),
    Training(CYCLE, STEPS, PGD_10, 64, name="cycle_pgd", precompute=True),
    Training(CYCLE, STEPS, DeepFool(BUDGET), 64, name="cycle_deepfool", precompute=True),
    Training(CYCLE, STEPS, CW_L2, 64, name="cycle_cw", precompute=True),
    Training(CYCLE_BLACK_BOX, STEPS, FGSM(BUDGET), 64, name="cycle_black_box"),
    Training(CYCLE, STEPS, PGD_10, 64, trained_on="cycle_pgd", name="round_2", precompute=True),
    Training(CYCLE, STEPS, PGD_10, 64, trained_on="round_2", name="round_3", precompute=True),
    Training(ADV_GAN, STEPS, batch_size=64),
    Training(ADV_GAN_BLACK_BOX, STEPS, batch_size=64, name="adv_black_box"),
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
        *(Trial(attack, Oblivious(), images=2_000) for attack in (PGD_40, DeepFool(BUDGET))),
        Trial(PGD_40_RESTARTS, Adaptive(), images=500),
        Trial(CW_L2, Oblivious(), images=500),
        Trial(PGD_L2, Adaptive(), images=500),
    ),
)
