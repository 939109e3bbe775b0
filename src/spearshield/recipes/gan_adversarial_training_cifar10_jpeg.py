"""CIFAR-10 as JPEG, L-inf 8/255: training against generators and PGD training, in equal time.

Training and test images are JPEG-compressed, so no number is comparable with published results. The
classifier is the ResNet of Wang and Yu without batch statistics at test time. The trainings have
different numbers of steps, so that each takes about as long as four epochs of PGD training on a
CPU, 20 minutes on one core; the times that were measured stand with the results. Images are
reflected and shifted by up to two pixels, as in the paper.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.wang_yu_resnet import WangYuResNet
from spearshield.datasets.cifar10_jpeg import CIFAR10JPEG
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.method import Method
from spearshield.methods.fgsm_rs import FGSMRS
from spearshield.methods.gan_adversarial_training import GANAdversarialTraining
from spearshield.methods.l2l import L2L
from spearshield.methods.learned_adversary import LearnedAdversary
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.augmentation import Augmentation
from spearshield.training.loop import Training
