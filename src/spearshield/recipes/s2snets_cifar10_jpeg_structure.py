"""CIFAR-10 as JPEG: the first stage of S2SNets, an autoencoder of the training images.

No label and no classifier is used, so the recipe `s2snets_cifar10_jpeg` starts all of its S2SNets
from these weights. The network has half of the paper's width, and three stages. The training takes
about fifteen minutes on one core.
"""

from __future__ import annotations

from spearshield.attacks.fgsm import FGSM
from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.datasets.cifar10_jpeg import CIFAR10JPEG
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.s2snets import S2SNets
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.augmentation import Augmentation
from spearshield.training.loop import Training
from spearshield.views import Oblivious

STEPS = 4_000

RECIPE = Recipe(
    data=CIFAR10JPEG(),
    classifier=SmallCNN(),
    pretraining=Training(StandardTraining(decay_steps=350), 350, name="standard"),
    defences=(
        Training(
            S2SNets(width=32, structure_steps=STEPS, decay_steps=STEPS),
            STEPS,
            batch_size=64,
            name="structure",
            augmentation=Augmentation(flip=True),
        ),
    ),
    trials=(Trial(FGSM(Linf(8 / 255)), Oblivious(), images=200),),
    images=200,
)
