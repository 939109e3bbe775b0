"""N-FGSM: adversarial training with one gradient step from strong noise, without projection.

de Jorge, Bibi, Volpi, Sanyal, Torr, Rogez, Dokania, "Make Some Noise: Reliable and Efficient
Single-Step Adversarial Training", 2022. https://arxiv.org/abs/2202.01181

    eta   <- uniform in the ball of radius k eps
    delta <- eta + alpha eps sign(gradient of CE(f(x + eta), y)), not projected into the ball
    L = CE(f(x + delta), y)

The noise and the result are clamped to the range of pixels, as in the authors' code. So a pixel
changes by up to (k + alpha) eps in training, while the classifier is to withstand eps.

Differences from the paper. The classifier is in evaluation mode when it is attacked. alpha is a
multiple of eps. In other norms than Linf, the step is the steepest one of the norm and the noise is
uniform in its ball. The optimiser is Adam, and eps can grow over the first steps. The budget is the
eps of the task's attack; nothing else of that attack is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch.nn.functional import cross_entropy

from spearshield.adversary import loss_gradient
from spearshield.losses import margin
from spearshield.method import Paper, Task
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.classifier_training import (
    AdversarialTraining,
    ClassifierLearner,
    accuracy,
    shrunk,
)
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class NFGSM(AdversarialTraining):
    """Cross-entropy on images with noise of up to ``k * eps`` and one step of ``alpha * eps``.

    The other settings are those of
    :class:`~spearshield.training.classifier_training.AdversarialTraining`.

    Args:
        k: Radius of the noise, as a multiple of eps. Where ``(k + alpha) * eps`` exceeds 0.5, black
            and white can change places in a training image; use a smaller ``k`` there, as 0.5 on
            MNIST with an eps of 0.3.
        alpha: Length of the step, as a multiple of eps.

    Raises:
        ValueError: A number is out of range. At the start of training: there is no attack to take
            the threat model of.
    """

    paper = Paper(
        "Make Some Noise: Reliable and Efficient Single-Step Adversarial Training",
        "de Jorge, Pau and Bibi, Adel and Volpi, Riccardo and Sanyal, Amartya and Torr, Philip H. "
        "S. and Rogez, Gr{\\'e}gory and Dokania, Puneet K.",
        2022,
        "https://arxiv.org/abs/2202.01181",
    )

    k: float = 2.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "k", at_least=0)
        require(self, "alpha", above=0)

    def learner(self, task: Task) -> NFGSMLearner:
        return NFGSMLearner(self, task)


class NFGSMLearner(ClassifierLearner):
    def __init__(self, method: NFGSM, task: Task) -> None:
        super().__init__(method, task)
        self.threat = task.attack.threat

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        k, alpha, threat = self.method.k, self.method.alpha, shrunk(self.threat, self.share)

        # eta: uniform in the ball of radius k eps.
        noisy = (x + k * threat.sample_perturbation(x, rng)).clamp(0, 1)

        # delta: one step of length alpha eps from there, without projection.
        gradient = loss_gradient(self.attacked(), noisy, y, margin.cross_entropy).gradient
        x_adv = (noisy + alpha * threat.eps * threat.steepest_step(gradient)).clamp(0, 1)
        watched = self.watched(x, y, x_adv, threat, rng)

        # min over theta.
        logits = self.logits(x_adv)
        loss = cross_entropy(logits, y)
        self.minimise(loss)
        return {"cross_entropy": loss.item(), "accuracy": accuracy(logits, y), **watched}
