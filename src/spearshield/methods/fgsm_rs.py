"""FGSM-RS: adversarial training with one gradient step from a random start.

Wong, Rice, Kolter, "Fast is better than free: Revisiting adversarial training", 2020.
https://arxiv.org/abs/2001.03994

    delta <- uniform in the ball of radius eps
    delta <- delta + alpha eps sign(gradient of CE(f(x + delta), y)), projected into the ball
    L = CE(f(x + delta), y)

The start may leave [0, 1]; x + delta after the step is clamped. If the start were clamped, a step
of more than eps would move every pixel that is 0 or 1 to an end of its interval, as without a
random start.

Differences from the paper. The classifier is in evaluation mode when it is attacked. alpha is a
multiple of eps. In other norms than Linf, the step is the steepest one of the norm and the start is
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
class FGSMRS(AdversarialTraining):
    """Cross-entropy on images after one step from a random start, within the task's threat model.

    The other settings are those of
    :class:`~spearshield.training.classifier_training.AdversarialTraining`. With one step
    catastrophic overfitting is possible, so set ``watch_every``.

    Args:
        alpha: Length of the step, as a multiple of eps.

    Raises:
        ValueError: A number is out of range. At the start of training: there is no attack to take
            the threat model of.
    """

    paper = Paper(
        "Fast is better than free: Revisiting adversarial training",
        "Wong, Eric and Rice, Leslie and Kolter, J. Zico",
        2020,
        "https://arxiv.org/abs/2001.03994",
    )

    alpha: float = 1.25

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "alpha", above=0)

    def learner(self, task: Task) -> FGSMRSLearner:
        return FGSMRSLearner(self, task)


class FGSMRSLearner(ClassifierLearner):
    def __init__(self, method: FGSMRS, task: Task) -> None:
        super().__init__(method, task)
        self.threat = task.attack.threat

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        threat = shrunk(self.threat, self.share)

        # delta: uniform in the ball, then one step of length alpha eps, projected.
        start = x + threat.sample_perturbation(x, rng)
        gradient = loss_gradient(self.attacked(), start, y, margin.cross_entropy).gradient
        x_adv = threat.step(start, x, gradient, self.method.alpha * threat.eps)
        watched = self.watched(x, y, x_adv, threat, rng)

        # min over theta.
        logits = self.logits(x_adv)
        loss = cross_entropy(logits, y)
        self.minimise(loss)
        return {"cross_entropy": loss.item(), "accuracy": accuracy(logits, y), **watched}
