"""MNIST, L-inf 0.3: Wang and Yu with the networks, optimisers and numbers of their code.

``gan`` penalises the gradient of G; ``gan_reward`` rewards it, as in the code. All trainings have
one schedule, and a half cosine in place of the code's division of the learning rate by ten. The
code takes 200,000 batches, five steps of G on each and one of the classifier on every fifth; here
the 25 steps of G have the batch of the classifier. It takes hours on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from spearshield.architecture import Architecture
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.wang_yu_cnn import WangYuCNN
from spearshield.dataset import Dataset
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.methods.ensemble_adversarial_training import EnsembleAdversarialTraining
from spearshield.methods.gan_adversarial_training import GANAdversarialTraining
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import ThreatModel
from spearshield.training.augmentation import Augmentation
from spearshield.training.loop import Training
from spearshield.training.transfer_attack import TransferFrom
from spearshield.views import Transferred

STEPS = 40_000
GAN = GANAdversarialTraining(
    lr=0.01, decay_steps=STEPS, optimiser="sgd", weight_decay=1e-5, generator_steps=25
)


def pgd_10(threat: ThreatModel) -> PGD:
    """The attack of the paper: ten steps of a quarter of eps."""
    return PGD(threat, steps=10, step_size=threat.eps / 4, early_stop=False)


def trainings(gan: GANAdversarialTraining, augmentation: Augmentation | None) -> Iterator[Training]:
    """Standard training, then the paper's with both signs of the regulariser, then its rivals."""
    schedule: dict[str, Any] = {
        "lr": gan.lr,
        "decay_steps": gan.decay_steps,
        "optimiser": gan.optimiser,
        "weight_decay": gan.weight_decay,
    }
    standard = StandardTraining(**schedule)
    one = Training(
        standard, gan.decay_steps, batch_size=64, name="standard", augmentation=augmentation
    )
    yield one
    yield replace(one, method=gan, name="gan")
    yield replace(one, method=replace(gan, regulariser="reward"), name="gan_reward")
    pgd = PGDAdversarialTraining(**schedule)
    yield replace(one, method=pgd, learn_from=pgd_10(gan.threat), name="pgd")
    ensemble = EnsembleAdversarialTraining(**schedule)
    yield replace(
        one,
        method=ensemble,
        steps=one.steps + ensemble.static_steps,
        learn_from=FGSM(gan.threat),
        name="ensemble",
    )
    yield replace(one, name="source_standard", replicate=1)


def trials(threat: ThreatModel) -> Iterator[Trial]:
    """White box, and black box by transfer from an independent standard training."""
    yield Trial(FGSM(threat))
    yield Trial(pgd_10(threat))
    hundred = replace(pgd_10(threat), steps=100, step_size=threat.eps / 10, restarts=5)
    yield Trial(hundred, images=1_000)
    for attack in (FGSM(threat), pgd_10(threat)):
        yield Trial(TransferFrom(threat, "source_standard~2", attack), Transferred())


def recipe(
    data: Dataset,
    classifier: Architecture,
    gan: GANAdversarialTraining,
    augmentation: Augmentation | None = None,
) -> Recipe:
    """The trainings and the attacks of the paper, for its settings ``gan`` on this data set."""
    standard, *defences = trainings(gan, augmentation)
    return Recipe(data, classifier, standard, tuple(defences), tuple(trials(gan.threat)))


RECIPE = recipe(MNIST(), WangYuCNN(), GAN)
