"""MNIST, L-inf 0.3: parts of learned adversaries one by one, on 1,000 validation images.

The network and the schedule are those of ``gan_adversarial_training_mnist``. ``gan``, the method of
Wang and Yu, has the regulariser as a penalty (``gan``), as a reward, and not at all. ``blind`` is a
generator alone with one step for each step of the classifier; each further training adds one part
to it or to ``gradient_3``, a generator and three gradient steps.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.attacks.apgd import APGD
from spearshield.attacks.pgd import PGD
from spearshield.judging.trial import Trial
from spearshield.methods.learned_adversary import LearnedAdversary
from spearshield.recipes.gan_adversarial_training_mnist import BUDGET, FAST, GAN, training
from spearshield.recipes.gan_adversarial_training_mnist import RECIPE as WHOLE

BLIND = LearnedAdversary(BUDGET, gradient_steps=0, noise=False, **FAST)
GRADIENT_3 = replace(BLIND, gradient_steps=3, step_size=2 / 3, noise=True)

RECIPE = replace(
    WHOLE,
    split="validation",
    images=1_000,
    defences=(
        training(GAN, "gan"),
        training(replace(GAN, regulariser="reward"), "gan_reward"),
        training(replace(GAN, gamma=0.0), "gan_no_regulariser"),
        training(BLIND, "blind"),
        training(replace(BLIND, noise=True), "noise"),
        training(replace(BLIND, generators=3), "three_generators"),
        training(replace(BLIND, replay=5), "replay"),
        training(replace(BLIND, gradient_steps=1), "gradient_1"),
        training(replace(BLIND, gradient_steps=2), "gradient_2"),
        training(GRADIENT_3, "gradient_3"),
        training(replace(GRADIENT_3, loss="trades"), "gradient_3_trades"),
        training(replace(GRADIENT_3, replay=5), "gradient_3_replay"),
        training(replace(GRADIENT_3, average=0.0), "gradient_3_no_average"),
    ),
    trials=(
        Trial(PGD(BUDGET, steps=40, step_size=0.02)),
        Trial(APGD(BUDGET), survivors=True),
        Trial(APGD(BUDGET, "dlr"), survivors=True),
    ),
)
