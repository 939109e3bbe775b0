"""PGD adversarial training: a classifier trained on adversarial images in place of clean ones.

Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial
Attacks", 2018. https://arxiv.org/abs/1706.06083

    min over theta of  E max over delta in the threat model of  CE(f_theta(x + delta), y)

Differences from the paper. eps grows from zero over the first steps, because the training of small
networks can fail to start at the full eps of MNIST. The optimiser is Adam with a cosine decay. The
attack is the task's, with its own steps and restarts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch.nn.functional import cross_entropy

from spearshield.method import Paper, Task
from spearshield.rng import Rng
from spearshield.training.classifier_training import (
    AdversarialTraining,
    ClassifierLearner,
    accuracy,
    scaled,
)
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class PGDAdversarialTraining(AdversarialTraining):
    """Cross-entropy on adversarial images of the current classifier, by the task's attack.

    The settings are those of
    :class:`~spearshield.training.classifier_training.AdversarialTraining`.

    Raises:
        ValueError: A number is out of range. At the start of training: there is no attack to train
            on.
    """

    paper = Paper(
        "Towards Deep Learning Models Resistant to Adversarial Attacks",
        "Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras, Dimitris "
        "and Vladu, Adrian",
        2018,
        "https://arxiv.org/abs/1706.06083",
    )

    def learner(self, task: Task) -> PGDAdversarialLearner:
        return PGDAdversarialLearner(self, task)


class PGDAdversarialLearner(ClassifierLearner):
    def __init__(self, method: PGDAdversarialTraining, task: Task) -> None:
        super().__init__(method, task)
        self.attack = task.attack

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        # max over delta: the attack on the current classifier.
        attack = scaled(self.attack, self.share)
        x_adv = attack(self.attacked(), x, y, rng=rng)
        watched = self.watched(x, y, x_adv, attack.threat, rng)

        # min over theta.
        logits = self.logits(x_adv)
        loss = cross_entropy(logits, y)
        self.minimise(loss)
        return {"cross_entropy": loss.item(), "accuracy": accuracy(logits, y), **watched}
