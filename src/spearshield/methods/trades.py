"""TRADES: accuracy on clean images, and equal predictions for all images of the threat model.

Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically Principled Trade-off between Robustness and
Accuracy", 2019. https://arxiv.org/abs/1901.08573

    x_adv = argmax over x' in the threat model of  KL(f(x) || f(x'))
    L = CE(f(x), y) + beta KL(f(x) || f(x_adv))

The maximisation starts at x plus a little Gaussian noise, because the gradient is zero at x, and
takes steps of steepest ascent. It needs no labels. beta is 1 / lambda of the paper.

Differences from the paper. The maximisation attacks the classifier in evaluation mode. By default
it has 10 steps of eps / 4; the authors' code for MNIST at eps 0.3 has 40 steps of 0.01 and beta 1.
In other norms than Linf the steps are the steepest ones of the norm. The optimiser is Adam, and eps
can grow over the first steps. The budget is the eps of the task's attack; nothing else of that
attack is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from spearshield.adversary import loss_gradient
from spearshield.losses.kl import kl_divergence
from spearshield.method import Paper, Task
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import ThreatModel
from spearshield.training.classifier_training import (
    AdversarialTraining,
    ClassifierLearner,
    accuracy,
    shrunk,
)
from spearshield.types import Images, Labels

NOISE = 1e-3
"""Standard deviation of the noise that the maximisation starts with, on the [0, 1] pixel scale."""


@dataclass(frozen=True)
class TRADES(AdversarialTraining):
    """Cross-entropy on clean images and the divergence of adversarial predictions from theirs.

    The other settings are those of
    :class:`~spearshield.training.classifier_training.AdversarialTraining`.

    Args:
        beta: Weight of the divergence.
        steps: Steps of the maximisation.
        step_size: Length of a step in the norm of the threat model, on the [0, 1] pixel scale;
            ``None``: ``eps / 4``. While eps grows, it is the same share of its final value.

    Raises:
        ValueError: A number is out of range. At the start of training: there is no attack to take
            the threat model of.
    """

    paper = Paper(
        "Theoretically Principled Trade-off between Robustness and Accuracy",
        "Zhang, Hongyang and Yu, Yaodong and Jiao, Jiantao and Xing, Eric P. and El Ghaoui, "
        "Laurent and Jordan, Michael I.",
        2019,
        "https://arxiv.org/abs/1901.08573",
    )

    beta: float = 6.0
    steps: int = 10
    step_size: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "beta", at_least=0)
        require(self, "steps", at_least=1)
        require(self, "step_size", above=0)

    def learner(self, task: Task) -> TRADESLearner:
        return TRADESLearner(self, task)


class TRADESLearner(ClassifierLearner):
    def __init__(self, method: TRADES, task: Task) -> None:
        super().__init__(method, task)
        self.threat = task.attack.threat
        self.step_size = method.step_size or self.threat.eps / 4

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        threat = shrunk(self.threat, self.share)

        # argmax over x' of KL(f(x) || f(x')).
        x_adv = self.most_divergent(x, y, threat, rng)
        watched = self.watched(x, y, x_adv, threat, rng)

        # CE(f(x), y) + beta KL(f(x) || f(x_adv)).
        clean, adversarial = self.logits(x), self.logits(x_adv)
        natural = cross_entropy(clean, y)
        robust = kl_divergence(clean, adversarial).mean()
        self.minimise(natural + self.method.beta * robust)
        return {
            "cross_entropy": natural.item(),
            "divergence": robust.item(),
            "accuracy": accuracy(adversarial, y),
            **watched,
        }

    def most_divergent(self, x: Images, y: Labels, threat: ThreatModel, rng: Rng) -> Images:
        """Images of the threat model whose predictions diverge from those for ``x``."""
        model = self.attacked()
        with torch.no_grad():
            clean = model(x)
        x_adv = threat.project(x + NOISE * rng.normal(x.shape[1:]), x)
        for _ in range(self.method.steps):
            gradient = loss_gradient(
                model, x_adv, y, lambda adv, _: kl_divergence(clean, adv)
            ).gradient
            x_adv = threat.step(x_adv, x, gradient, self.share * self.step_size)
        return x_adv
