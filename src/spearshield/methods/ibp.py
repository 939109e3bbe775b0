"""IBP: a classifier trained on interval bounds of its logits, for a certificate.

Gowal, Dvijotham, Stanforth, Bunel, Qin, Uesato, Arandjelovic, Mann, Kohli, "On the Effectiveness of
Interval Bound Propagation for Training Verifiably Robust Models", 2018.
https://arxiv.org/abs/1810.12715

    z_hat  the worst case of the logits over the box of images around x, by interval arithmetic
    L = kappa * CE(f(x), y) + (1 - kappa) * CE(z_hat, y)

The last linear layer is merged with the difference of two logits, so z_hat is the upper bound of
f_j - f_y for each class j. eps grows from zero and kappa falls from one over the warm-up.

Differences from the paper. The learning rate has the schedule of all trainings of this package,
not two drops. There is no phase at eps = 0 before the warm-up; kappa starts near one. The box is
clipped to [0, 1]. Batch normalisation, which the paper's networks do not have, takes its statistics
from the clean images. The networks of Shi et al., "Fast Certified Robust Training with Short
Warmup", 2021, https://arxiv.org/abs/2103.17134, need ``interval_weights``; their regularisation of
the bounds is not here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from spearshield.method import Paper, Task
from spearshield.nets.bounded import bounded_logits, box, check_boundable, worst_case
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.classifier_training import (
    AdversarialTraining,
    ClassifierLearner,
    accuracy,
)
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class IBP(AdversarialTraining):
    """Cross-entropy on interval bounds, mixed with cross-entropy on clean images.

    eps is the task's attack's; the attack itself is not used. Where its norm is another than Linf,
    the box around its ball is bounded. A larger eps than the one to certify may certify more.

    The other settings are those of
    :class:`~spearshield.training.classifier_training.AdversarialTraining`. Bounds are in float32,
    whatever the ``precision``. Without a warm-up of eps the training fails to start. There is no
    adversary, so ``watch_every`` must be 0.

    Args:
        kappa: Weight of the clean images after the warm-up, in [0, 1].
        interval_weights: Start from weights under which bounds neither widen nor shrink from layer
            to layer, see :func:`draw_interval_weights`, in place of the untrained network's.

    Raises:
        ValueError: A number is out of range. At the start of training: there is no attack to take
            eps from, or the classifier has a layer without interval bounds; the message names it.
    """

    paper = Paper(
        "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models",
        "Gowal, Sven and Dvijotham, Krishnamurthy and Stanforth, Robert and Bunel, Rudy and Qin, "
        "Chongli and Uesato, Jonathan and Arandjelovic, Relja and Mann, Timothy and Kohli, "
        "Pushmeet",
        2018,
        "https://arxiv.org/abs/1810.12715",
    )

    warmup_share = 0.5

    kappa: float = 0.5
    interval_weights: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "kappa", at_least=0, at_most=1)
        if self.watch_every:
            raise ValueError(
                "interval bounds have no adversary to compare with PGD; set watch_every to 0, got "
                f"{self.watch_every}"
            )

    def learner(self, task: Task) -> IBPLearner:
        return IBPLearner(self, task)


class IBPLearner(ClassifierLearner):
    def __init__(self, method: IBP, task: Task) -> None:
        super().__init__(method, task)
        self.eps = task.attack.threat.eps
        check_boundable(self.classifier, task.shape)
        if method.interval_weights:
            draw_interval_weights(self.classifier)

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        # eps grows from zero, kappa falls from one.
        eps = self.share * self.eps
        kappa = 1 - self.share * (1 - self.method.kappa)

        # f(x) and z_hat, in one pass.
        logits = bounded_logits(self.classifier.train(), x, *box(x, eps))
        z_hat = worst_case(logits, y)

        # L
        clean, worst = cross_entropy(logits.value, y), cross_entropy(z_hat, y)
        # Without its weight the clean term costs a third of the backward pass.
        self.minimise(kappa * clean + (1 - kappa) * worst if kappa else worst)
        return {
            "cross_entropy": clean.item(),
            "worst_cross_entropy": worst.item(),
            "accuracy": accuracy(logits.value, y),
            "bounded_accuracy": accuracy(z_hat, y),
        }


@torch.no_grad()
def draw_interval_weights(network: nn.Module) -> None:
    """Draw the weights of linear layers and 2-D convolutions anew, in place; biases become zero.

    A weight is normal with the standard deviation sqrt(2 pi) / n, where n is the number of inputs
    of an output. Then the expected width of the bounds behind the next ReLU is the width before the
    layer. Shi, Wang, Zhang, Yi, Hsieh, "Fast Certified Robust Training with Short Warmup", 2021,
    https://arxiv.org/abs/2103.17134.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            inputs = layer.weight[0].numel()
            layer.weight.normal_(0, math.sqrt(2 * math.pi) / inputs)
            if layer.bias is not None:
                layer.bias.zero_()
