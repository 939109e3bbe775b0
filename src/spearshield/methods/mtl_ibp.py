"""MTL-IBP: adversarial training and training on interval bounds as two tasks of one loss.

De Palma, Bunel, Dvijotham, Kumar, Stanforth, Lomuscio, "Expressive Losses for Verified Robustness
via Convex Combinations", 2023. https://arxiv.org/abs/2305.13991

    x_adv  an adversarial image of the current classifier, by the task's attack
    z_hat  the worst case of the logits over the box of images around x, by interval arithmetic
    L = (1 - alpha) * CE(f(x_adv), y) + alpha * CE(z_hat, y)

The last linear layer is merged with the difference of two logits, as in
:mod:`~spearshield.methods.ibp`.

Differences from the paper. The attack is the task's, with its own steps. The schedules are those of
all trainings of this package. alpha grows from zero with eps: with all of alpha from the first step
the logits of a network with ordinary initial weights may shrink to constants. There is no L1
penalty, and neither the initialisation nor the regularisation of Shi et al., "Fast Certified Robust
Training with Short Warmup", 2021, https://arxiv.org/abs/2103.17134. Batch normalisation takes its
statistics from the adversarial images, also for the bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch.nn.functional import cross_entropy

from spearshield.method import Paper, Task
from spearshield.nets.bounded import bounded_logits, box, check_boundable, worst_case
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.classifier_training import (
    AdversarialTraining,
    ClassifierLearner,
    accuracy,
    scaled,
)
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class MTLIBP(AdversarialTraining):
    """Cross-entropy on adversarial images, mixed with cross-entropy on interval bounds.

    The attack and eps are the task's. Where the norm is another than Linf, the box around the ball
    is bounded.

    The other settings are those of
    :class:`~spearshield.training.classifier_training.AdversarialTraining`. ``precision`` is
    for the attack; bounds are in float32. Without a warm-up of eps the training fails to start.

    Args:
        alpha: Weight of the bounds after the warm-up, in [0, 1]: 0 is adversarial training, 1 is
            IBP without clean images.

    Raises:
        ValueError: A number is out of range. At the start of training: there is no attack to train
            on, or the classifier has a layer without interval bounds; the message names it.
    """

    paper = Paper(
        "Expressive Losses for Verified Robustness via Convex Combinations",
        "De Palma, Alessandro and Bunel, Rudy and Dvijotham, Krishnamurthy and Kumar, M. Pawan "
        "and Stanforth, Robert and Lomuscio, Alessio",
        2023,
        "https://arxiv.org/abs/2305.13991",
    )

    warmup_share = 0.5

    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "alpha", at_least=0, at_most=1)

    def learner(self, task: Task) -> MTLIBPLearner:
        return MTLIBPLearner(self, task)


class MTLIBPLearner(ClassifierLearner):
    def __init__(self, method: MTLIBP, task: Task) -> None:
        super().__init__(method, task)
        self.attack = task.attack
        check_boundable(self.classifier, task.shape)

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        # x_adv: the attack on the current classifier.
        attack = scaled(self.attack, self.share)
        x_adv = attack(self.attacked(), x, y, rng=rng)
        watched = self.watched(x, y, x_adv, attack.threat, rng)

        # f(x_adv) and z_hat, in one pass.
        logits = bounded_logits(self.classifier.train(), x_adv, *box(x, attack.threat.eps))
        z_hat = worst_case(logits, y)

        # L
        attacked, worst = cross_entropy(logits.value, y), cross_entropy(z_hat, y)
        alpha = self.share * self.method.alpha
        self.minimise((1 - alpha) * attacked + alpha * worst)
        return {
            "cross_entropy": attacked.item(),
            "worst_cross_entropy": worst.item(),
            "accuracy": accuracy(logits.value, y),
            "bounded_accuracy": accuracy(z_hat, y),
            **watched,
        }
