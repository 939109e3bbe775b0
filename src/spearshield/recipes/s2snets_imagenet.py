"""ImageNet sample, 224 pixels: S2SNets and the input transformations of the paper's comparison.

The classifier is MobileNetV2 with published weights, which does not change. ``WEIGHTS`` is looked
for in the working directory; elsewhere: `--set weights=FILE`. ``s2snets`` is the second stage, from
the weights of the recipe `s2snets_imagenet_structure`; ``structure`` is the autoencoder before it,
as a control. The test images are disjoint from the 600 images that the second stage is trained on.

An attack on the defended classifier takes seconds for each image on a CPU, so it has 20 to 100
images. With another classifier: `--set classifier=squeezenet
--set weights=weights/imagenet_squeezenet1.1.npz`.
"""

from __future__ import annotations

from dataclasses import replace

from spearshield.attacks.bim import BIM
from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.attacks.fgsm import FGSM
from spearshield.classifiers.mobilenet_v2 import MobileNetV2
from spearshield.datasets.imagenet_sample import ImageNetSample
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.bit_depth import BitDepth
from spearshield.methods.crop_rescale import CropRescale
from spearshield.methods.image_quilting import ImageQuilting
from spearshield.methods.jpeg import JPEG
from spearshield.methods.pixel_deflection import PixelDeflection
from spearshield.methods.s2snets import S2SNets
from spearshield.methods.total_variation import TotalVariation
from spearshield.recipes.inverse_perturbation_imagenet import WEIGHTS
from spearshield.recipes.s2snets_cifar10_jpeg import pgd
from spearshield.threat import L2, Linf
from spearshield.training.augmentation import Augmentation
from spearshield.training.loop import Training
from spearshield.views import BPDA, EOT, Adaptive, Oblivious

STRUCTURE = "runs/s2snets_imagenet_structure/structure/weights.safetensors"
SIGNAL_STEPS = 1_500
BUDGETS = tuple(Linf(levels / 255) for levels in (1, 2, 4))
L2_BUDGETS = tuple(L2(eps) for eps in (1.0, 2.0, 4.0))

STARTED = S2SNets(width=16, stages=5, weights=STRUCTURE)


def carlini_wagner(budget: L2) -> CarliniWagner:
    """Carlini-Wagner with few steps."""
    return CarliniWagner(budget, steps=30, lr=0.02, searches=2, initial_c=1.0)


RECIPE = Recipe(
    data=ImageNetSample(training=700, validation=100),
    classifier=MobileNetV2(),
    pretraining=None,
    weights=WEIGHTS,
    defences=(
        Training(STARTED, 0, name="structure"),
        Training(
            replace(STARTED, signal_lr=3e-4, decay_steps=SIGNAL_STEPS),
            SIGNAL_STEPS,
            batch_size=8,
            name="s2snets",
            augmentation=Augmentation(shift=16, flip=True),
        ),
        Training(BitDepth(), 0),
        Training(JPEG(), 0),
        Training(TotalVariation(), 0),
        Training(ImageQuilting(), 50, batch_size=8),
        Training(CropRescale(), 0),
        Training(PixelDeflection(), 0),
    ),
    trials=(
        *(Trial(FGSM(budget), Oblivious(), images=200) for budget in BUDGETS),
        *(Trial(BIM(budget), Oblivious(), images=200) for budget in BUDGETS),
        *(Trial(carlini_wagner(budget), Oblivious(), images=50) for budget in L2_BUDGETS),
        *(Trial(FGSM(budget), Adaptive(), images=100) for budget in BUDGETS),
        *(Trial(BIM(budget), Adaptive(), images=50) for budget in BUDGETS),
        *(Trial(carlini_wagner(budget), Adaptive(), images=20) for budget in L2_BUDGETS),
        *(Trial(pgd(budget), BPDA(), images=25) for budget in BUDGETS),
        *(Trial(pgd(budget), BPDA("approximation"), images=25) for budget in BUDGETS),
        Trial(pgd(Linf(4 / 255)), EOT(5), images=25),
        Trial(pgd(Linf(4 / 255)), EOT(5, BPDA()), images=25),
    ),
    draws=3,
    batch_size=25,
)
