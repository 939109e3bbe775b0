"""Standard training: a classifier trained on clean images, the baseline of all defences.

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", 1986.
https://doi.org/10.1038/323533a0

Differences from the paper. The optimiser is Adam with a cosine decay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch.nn.functional import cross_entropy

from spearshield.method import Paper, Task
from spearshield.rng import Rng
from spearshield.training.classifier_training import ClassifierLearner, ClassifierTraining
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class StandardTraining(ClassifierTraining):
    """Cross-entropy on clean images.

    The settings are those of
    :class:`~spearshield.training.classifier_training.ClassifierTraining`.

    Raises:
        ValueError: A number is out of range.
    """

    paper = Paper(
        "Learning representations by back-propagating errors",
        "Rumelhart, David E. and Hinton, Geoffrey E. and Williams, Ronald J.",
        1986,
        "https://doi.org/10.1038/323533a0",
    )

    def learner(self, task: Task) -> StandardLearner:
        return StandardLearner(self, task)


class StandardLearner(ClassifierLearner):
    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        loss = cross_entropy(self.logits(x), y)
        self.minimise(loss)
        return {"cross_entropy": loss.item()}
