"""Standard training: a classifier learns clean images, the baseline of every table.

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", 1986.
https://doi.org/10.1038/323533a0

Differences from the paper: none of substance; the optimiser is Adam with a cosine decay.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from spearshield.method import Learner, Method, Outcome, Paper, Task, minimise
from spearshield.rng import Rng
from spearshield.training.optim import cosine
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class StandardTraining(Method):
    """Cross-entropy on clean images.

    Args:
        lr: Learning rate of Adam at the start.
        decay_steps: Steps over which it falls to zero along a half cosine; 0: it stays.
    """

    paper = Paper(
        "Learning representations by back-propagating errors",
        "Rumelhart, David E. and Hinton, Geoffrey E. and Williams, Ronald J.",
        1986,
        "https://doi.org/10.1038/323533a0",
    )

    lr: float = 1e-3
    decay_steps: int = 0

    def learner(self, task: Task) -> StandardLearner:
        return StandardLearner(self, task)


class StandardLearner(Learner):
    seen: torch.Tensor

    def __init__(self, method: StandardTraining, task: Task) -> None:
        super().__init__()
        self.method = method
        self.classifier = copy.deepcopy(task.untrained)
        self.optimiser = torch.optim.Adam(self.classifier.parameters(), method.lr)
        self.register_buffer("seen", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        self.classifier.train()
        self.optimiser.param_groups[0]["lr"] = cosine(
            self.method.lr, int(self.seen), self.method.decay_steps
        )
        loss = cross_entropy(self.classifier(x), y)
        minimise(self.optimiser, loss)
        self.seen += 1
        return {"cross_entropy": loss.item()}

    def outcome(self) -> Outcome:
        return Outcome(self.classifier.eval())
