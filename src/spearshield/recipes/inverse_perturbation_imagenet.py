"""Natural images of 224 pixels: IP-GAN and GRIP-GAN in front of a published classifier, Linf 4/255.

600 of the 1,000 images train the purifiers, 100 are for validation, and 300 are attacked; the
classifier is pretrained and does not change. ``WEIGHTS`` is looked for in the working directory;
another file, and another classifier:

    spearshield run inverse_perturbation_imagenet --set classifier=squeezenet \\
        --set weights=weights/imagenet_squeezenet1.1.npz

With timm, and its published weights:

    spearshield run inverse_perturbation_imagenet --set classifier=timm:resnet50 \\
        --set classifier.pretrained=true --set weights=

and alike ``timm:vgg19``, and ``timm:inception_v3`` with ``--set data.size=299``. The memory of
the generator holds the inputs of its parts, and the activations of one part at a time.
"""

from __future__ import annotations

from spearshield.attacks.bim import BIM
from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.attacks.deepfool import DeepFool
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.mi_fgsm import MIFGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.mobilenet_v2 import MobileNetV2
from spearshield.datasets.imagenet_sample import ImageNetSample
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.grip_gan import GRIPGAN
from spearshield.methods.ip_gan import IPGAN
from spearshield.methods.uap import UAP
from spearshield.methods.uipd import UIPD
from spearshield.threat import L2, Linf
from spearshield.training.learned_attack import AttackFrom
from spearshield.training.loop import Training
from spearshield.training.mixture import Mixture
from spearshield.views import Adaptive, Oblivious

BUDGET = Linf(4 / 255)
L2_BUDGET = L2(4.0)
WEIGHTS = "weights/imagenet_mobilenetv2_1.0_tfslim.npz"
STEPS = 750
"""Ten epochs of batches of 8."""

PGD_4 = PGD(BUDGET, steps=4, step_size=2 / 255, early_stop=False)
SEEN = Mixture(BUDGET, (FGSM(BUDGET), PGD_4))

RECIPE = Recipe(
    data=ImageNetSample(training=700, validation=100),
    classifier=MobileNetV2(),
    pretraining=None,
    weights=WEIGHTS,
    defences=(
        Training(UAP(BUDGET), 150, batch_size=8, name="uap"),
        Training(
            IPGAN(width=8, blocks=2, pixel_weight=100.0, decay_steps=STEPS),
            STEPS,
            SEEN,
            batch_size=8,
            name="ip_gan",
        ),
        Training(
            GRIPGAN(width=8, blocks=2, noise=0.1, pixel_weight=100.0, decay_steps=STEPS),
            STEPS,
            batch_size=8,
            name="grip_gan",
        ),
        Training(UIPD(BUDGET), 150, batch_size=8, name="uipd"),
    ),
    trials=(
        Trial(FGSM(BUDGET), Oblivious()),
        Trial(BIM(BUDGET), Oblivious()),
        Trial(MIFGSM(BUDGET), Oblivious()),
        Trial(PGD(BUDGET, steps=10, step_size=1 / 255, early_stop=False), Oblivious()),
        Trial(CarliniWagner(L2_BUDGET, steps=30, lr=0.02, searches=3, initial_c=1.0), Oblivious()),
        Trial(DeepFool(L2_BUDGET, steps=20), Oblivious()),
        Trial(AttackFrom(BUDGET, "uap"), Oblivious()),
        Trial(PGD(BUDGET, steps=20, step_size=1 / 255), Adaptive()),
    ),
    batch_size=25,
)
