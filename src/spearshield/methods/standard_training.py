"""Standard training: a classifier is trained on clean images, the baseline of all defences.

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", 1986.
https://doi.org/10.1038/323533a0

Differences from the paper. The optimiser is Adam with a cosine decay.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from spearshield.method import Learner, Method, Outcome, Paper, Task
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class StandardTraining(Method):
    """Cross-entropy on clean images.

    Args:
        lr: Learning rate of Adam at the start.
        decay_steps: Steps over which it falls to zero along a half cosine; 0: it is constant.

    Raises:
        ValueError: A number is out of range.
    """

    paper = Paper(
        "Learning representations by back-propagating errors",
        "Rumelhart, David E. and Hinton, Geoffrey E. and Williams, Ronald J.",
        1986,
        "https://doi.org/10.1038/323533a0",
    )

    lr: float = 1e-3
    decay_steps: int = 0

    def __post_init__(self) -> None:
        require(self, "lr", "decay_steps", at_least=0)

    def learner(self, task: Task) -> StandardLearner:
        return StandardLearner(self, task)


class StandardLearner(Learner):
    taken: torch.Tensor

    def __init__(self, method: StandardTraining, task: Task) -> None:
        super().__init__()
        self.method = method
        self.classifier = copy.deepcopy(task.untrained)
        self.optimiser = torch.optim.Adam(self.classifier.parameters(), method.lr)
        self.register_buffer("taken", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        set_lr(cosine(self.method.lr, int(self.taken), self.method.decay_steps), self.optimiser)
        self.taken += 1
        loss = cross_entropy(self.classifier.train()(x), y)
        minimise(self.optimiser, loss)
        return {"cross_entropy": loss.item()}

    def outcome(self) -> Outcome:
        return Outcome(self.classifier.eval())
