"""MNIST, L-inf 0.3: parts of learned adversaries one by one, on 1,000 validation images.

The network and the schedule are those of ``gan_adversarial_training_mnist``. ``gan``, the method of
Wang and Yu, has the regulariser as a penalty (``gan``), as a reward, and not at all. ``blind`` is a
generator alone with one step for each step of the classifier; ``noise`` to ``gradient_2`` add one
part to it. ``gradient_3`` has noise and three shorter gradient steps; each training after it
changes one part of it. ``random_K`` takes the gradient steps of ``gradient_K`` from a random point
in place of the image of a generator.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.attacks.apgd import APGD
from spearshield.attacks.pgd import PGD
from spearshield.judging.trial import Trial
from spearshield.methods.learned_adversary import LearnedAdversary
from spearshield.recipes.gan_adversarial_training_mnist import (
    BUDGET,
    FAST,
    GAN,
    PGD_TRAINING,
    training,
)
from spearshield.recipes.gan_adversarial_training_mnist import RECIPE as WHOLE
from spearshield.training.loop import Training

BLIND = LearnedAdversary(BUDGET, gradient_steps=0, noise=False, **FAST)
GRADIENT_3 = replace(BLIND, gradient_steps=3, step_size=2 / 3, noise=True)


def random_start(steps: int, step_size: float) -> Training:
    """Gradient steps of a multiple of eps from a random point."""
    attack = PGD(BUDGET, steps=steps, step_size=step_size * BUDGET.eps, early_stop=False)
    return training(PGD_TRAINING, f"random_{steps}", attack)


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
        training(replace(GRADIENT_3, noise=False), "gradient_3_no_noise"),
        random_start(1, BLIND.step_size),
        random_start(2, BLIND.step_size),
        random_start(3, GRADIENT_3.step_size),
    ),
    trials=(
        Trial(PGD(BUDGET, steps=40, step_size=0.02)),
        Trial(APGD(BUDGET), survivors=True),
        Trial(APGD(BUDGET, "dlr"), survivors=True),
    ),
)
