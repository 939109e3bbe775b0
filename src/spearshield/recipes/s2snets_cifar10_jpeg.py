"""CIFAR-10 as JPEG: S2SNets and the input transformations that the paper compares them with.

``s2snets`` is the second stage: the decoder is trained through the classifier, from the weights of
the recipe `s2snets_cifar10_jpeg_structure`, on shifted and reflected images. ``structure`` is the
autoencoder before it, as a control. The other defences change images by fixed rules;
``image_quilting`` collects patches of training images.

Each attack has four budgets, for curves of accuracy over the size of the perturbation: gray-box
(the bare classifier is attacked) on 1,000 test images, white-box on 200, Carlini-Wagner on 200 and
100; BPDA attacks the transformations without a gradient. The classifier is a ResNet-20 that is
trained here. For the two others: `--set classifier=wang_yu_resnet` and
`--set classifier=small_cnn`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spearshield.attacks.bim import BIM
from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.resnet20 import ResNet20
from spearshield.datasets.cifar10_jpeg import CIFAR10JPEG
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.bit_depth import BitDepth
from spearshield.methods.crop_rescale import CropRescale
from spearshield.methods.image_quilting import ImageQuilting
from spearshield.methods.jpeg import JPEG
from spearshield.methods.pixel_deflection import PixelDeflection
from spearshield.methods.s2snets import S2SNets
from spearshield.methods.standard_training import StandardTraining
from spearshield.methods.total_variation import TotalVariation
from spearshield.threat import L2, Linf
from spearshield.training.augmentation import Augmentation
from spearshield.training.loop import Training
from spearshield.views import BPDA, EOT, Adaptive, Oblivious

STRUCTURE = "runs/s2snets_cifar10_jpeg_structure/structure/weights.safetensors"
PRETRAINING_STEPS = 3_500
SIGNAL_STEPS = 3_000
BUDGETS = tuple(Linf(levels / 255) for levels in (1, 2, 4, 8))
L2_BUDGETS = tuple(L2(eps) for eps in (0.25, 0.5, 1.0, 2.0))


def carlini_wagner(budget: L2) -> CarliniWagner:
    """Carlini-Wagner with few steps."""
    return CarliniWagner(budget, steps=50, lr=0.05, searches=3, initial_c=1.0)


def pgd(budget: Linf, **settings: Any) -> PGD:
    """PGD of 20 steps."""
    return PGD(budget, steps=20, step_size=budget.eps / 5, **settings)


STARTED = S2SNets(width=32, weights=STRUCTURE)
AUGMENTATION = Augmentation(shift=2, flip=True)

RECIPE = Recipe(
    data=CIFAR10JPEG(),
    classifier=ResNet20(),
    pretraining=Training(
        StandardTraining(
            lr=3e-3,
            rise_steps=PRETRAINING_STEPS // 5,
            decay_steps=PRETRAINING_STEPS,
            weight_decay=0.05,
            precision="bfloat16",
        ),
        PRETRAINING_STEPS,
        name="standard",
        augmentation=AUGMENTATION,
    ),
    defences=(
        Training(
            replace(STARTED, signal_lr=5e-4, decay_steps=SIGNAL_STEPS),
            SIGNAL_STEPS,
            batch_size=64,
            name="s2snets",
            augmentation=AUGMENTATION,
        ),
        Training(STARTED, 0, name="structure"),
        Training(BitDepth(), 0),
        Training(JPEG(), 0),
        Training(TotalVariation(), 0),
        Training(ImageQuilting(), 50),
        Training(CropRescale(), 0),
        Training(PixelDeflection(), 0),
    ),
    trials=(
        *(Trial(FGSM(budget), Oblivious(), images=1_000) for budget in BUDGETS),
        *(Trial(BIM(budget), Oblivious(), images=1_000) for budget in BUDGETS),
        *(Trial(carlini_wagner(budget), Oblivious(), images=200) for budget in L2_BUDGETS),
        *(Trial(FGSM(budget), Adaptive(), images=200) for budget in BUDGETS),
        *(Trial(BIM(budget), Adaptive(), images=200) for budget in BUDGETS),
        *(Trial(carlini_wagner(budget), Adaptive(), images=100) for budget in L2_BUDGETS),
        *(Trial(pgd(budget), BPDA(), images=200) for budget in BUDGETS),
        *(Trial(pgd(budget), BPDA("approximation"), images=200) for budget in BUDGETS),
        *(Trial(pgd(budget), EOT(10), images=200) for budget in BUDGETS),
        *(Trial(pgd(budget), EOT(10, BPDA()), images=200) for budget in BUDGETS),
    ),
    images=1_000,
    draws=5,
    batch_size=100,
)
