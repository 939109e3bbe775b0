"""MNIST, L-inf 0.3: training against generators, and the trainings that it has to beat.

All trainings have one network and one number of steps of the classifier, and differ in the
adversary: none (standard), a generator (``gan``, ``l2l``, ``learned_adversary``), gradient steps
(PGD, TRADES, FGSM-RS, N-FGSM), other models (ensemble), or interval bounds (IBP, MTL-IBP). They
have one schedule, but the budget of the bounds grows for half of the steps. ``gan`` has the
generator of the paper with a quarter of its width. The static models of ``ensemble`` are trained in
steps of their own, before the others. The trainings called ``source`` are independent repetitions,
whose adversarial images are transferred to every victim. ``gan`` and the bounds need float32; all
others are in bfloat16.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spearshield.adversary import Attack
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.strided_cnn import StridedCNN
from spearshield.classifiers.thresholded import Thresholded
from spearshield.datasets.mnist import MNIST
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.method import Method
from spearshield.methods.ensemble_adversarial_training import EnsembleAdversarialTraining
from spearshield.methods.fgsm_rs import FGSMRS
from spearshield.methods.gan_adversarial_training import GANAdversarialTraining
from spearshield.methods.ibp import IBP
from spearshield.methods.l2l import L2L
from spearshield.methods.learned_adversary import LearnedAdversary
from spearshield.methods.mtl_ibp import MTLIBP
from spearshield.methods.n_fgsm import NFGSM
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.methods.trades import TRADES
from spearshield.threat import Linf
from spearshield.training.loop import Training
from spearshield.training.transfer_attack import TransferFrom
from spearshield.views import Transferred

BUDGET = Linf(0.3)
STEPS = 1_716
PGD_7 = PGD(BUDGET, steps=7, step_size=0.1, early_stop=False)
PGD_10 = PGD(BUDGET, steps=10, step_size=0.075)
PGD_100 = PGD(BUDGET, steps=100, step_size=0.03, restarts=5)

SCHEDULE: dict[str, Any] = {
    "lr": 3e-3,
    "rise_steps": 171,
    "decay_steps": STEPS,
    "warmup_steps": 257,
    "average": 0.998,
    "watch_every": 50,
}
FAST: dict[str, Any] = {**SCHEDULE, "precision": "bfloat16"}
BOUNDS: dict[str, Any] = {**SCHEDULE, "warmup_steps": STEPS // 2}
STANDARD: dict[str, Any] = {
    key: FAST[key] for key in ("lr", "rise_steps", "decay_steps", "average", "precision")
}


def training(
    method: Method, name: str = "", attack: Attack = PGD_7, replicate: int = 0, first: int = 0
) -> Training:
    """A training of all steps, in batches of 128: four epochs, after ``first`` other steps."""
    return Training(method, first + STEPS, attack, 128, name=name, replicate=replicate)


GAN = GANAdversarialTraining(BUDGET, width=16, **SCHEDULE)
PGD_TRAINING = PGDAdversarialTraining(**FAST)
LEARNED = LearnedAdversary(BUDGET, gradient_steps=3, step_size=2 / 3, **FAST)
ENSEMBLE = EnsembleAdversarialTraining(**FAST)
SOURCES = (
    training(StandardTraining(**STANDARD), "source_standard", replicate=1),
    training(ENSEMBLE, "source_ensemble", FGSM(BUDGET), 1, ENSEMBLE.static_steps),
    training(PGD_TRAINING, "source_pgd", replicate=1),
    training(replace(GAN, gamma=0.0, precision="bfloat16"), "source_gan", replicate=1),
)

RECIPE = Recipe(
    data=MNIST(),
    classifier=Thresholded(StridedCNN(width=16)),
    pretraining=training(StandardTraining(**STANDARD), "standard"),
    defences=(
        training(GAN, "gan"),
        training(L2L(BUDGET, **FAST), "l2l"),
        training(L2L(BUDGET, calls=2, **FAST), "l2l_two_calls"),
        training(LEARNED, "learned_adversary"),
        training(PGD_TRAINING, "pgd"),
        training(TRADES(steps=7, step_size=0.1, **FAST), "trades"),
        training(ENSEMBLE, "ensemble", FGSM(BUDGET), first=ENSEMBLE.static_steps),
        training(FGSMRS(**FAST), "fgsm_rs"),
        training(NFGSM(k=0.5, **FAST), "n_fgsm"),
        training(IBP(**{**BOUNDS, "watch_every": 0}), "ibp"),
        training(MTLIBP(**BOUNDS), "mtl_ibp"),
        *SOURCES,
    ),
    trials=(
        Trial(FGSM(BUDGET)),
        Trial(PGD_10),
        Trial(PGD_100, images=1_000),
        *(
            Trial(TransferFrom(BUDGET, source.display_name, attack), Transferred(), images=1_000)
            for source in SOURCES
            for attack in (FGSM(BUDGET), replace(PGD_10, early_stop=False))
        ),
    ),
)
