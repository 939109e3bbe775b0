"""MNIST, L-inf 0.3: the most robust network that one core trains in an hour and a quarter.

``robust`` is the mean of four CNNs. Each is trained by ATTA: a batch has 512 images, which are
shifted, turned and distorted, and the 128 hardest of them are attacked by four gradient steps and
trained on.

One more network, as a source of transferred attacks:

    spearshield run learned_adversary_mnist --set classifier=strided_cnn --set defences=pgd
"""

from __future__ import annotations

from spearshield.attacks.fgsm import FGSM
from spearshield.classifiers.strided_cnn import StridedCNN
from spearshield.experiment.recipe import Recipe
from spearshield.methods.atta import ATTA
from spearshield.methods.deep_ensemble import DeepEnsemble
from spearshield.recipes.learned_adversary_mnist import BUDGET, CHANGES, POOL, schedule
from spearshield.recipes.learned_adversary_mnist import RECIPE as SINGLE
from spearshield.training.loop import Training

STEPS = 4_000
MEMBERS = 4

RECIPE = Recipe(
    data=SINGLE.data,
    classifier=StridedCNN(width=32),
    pretraining=SINGLE.pretraining,
    defences=(
        Training(
            DeepEnsemble(
                ATTA(
                    steps=4,
                    step_size=1 / 3,
                    hardest=0.25,
                    augmentation=CHANGES,
                    **schedule(STEPS),
                ),
                MEMBERS,
            ),
            MEMBERS * STEPS,
            FGSM(BUDGET),
            POOL,
            name="robust",
        ),
    ),
    trials=SINGLE.trials,
)
