"""Deep ensemble: several networks, trained independently, whose logits are averaged.

Lakshminarayanan, Pritzel, Blundell, "Simple and Scalable Predictive Uncertainty Estimation using
Deep Ensembles", 2017. https://arxiv.org/abs/1612.01474

    f_1 ... f_M   networks of one architecture, each with initial weights of its own
    for each m:   train f_m, against an adversary of f_m alone
    f(x) = 1/M sum over m of f_m(x)

An attacker of the deployed classifier differentiates the mean.

Differences from the paper. Only its abstract and secondary descriptions were available.

- The training of a member is any training of a classifier here, with the adversary of that
  training. If it also trains an attack, the attack is dropped.
- The logits are averaged; the paper averages the probabilities.
- The members take turns: step i trains member i modulo M. A batch is for one member, so a member
  sees an image about once in M epochs.
- Initial weights are drawn by ``reset_parameters`` of the layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from spearshield.classifiers.ensemble import Members
from spearshield.method import Learner, Method, Outcome, Paper, Task
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.nets.fresh_copy import fresh_copy
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.classifier_training import ClassifierTraining
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class DeepEnsemble(Method):
    """The mean of the logits of independently trained networks.

    Args:
        member: The training of each network.
        members: Number of networks. With ``n`` steps, each is trained for ``n / members`` steps.

    Raises:
        ValueError: ``members`` is below 1. At the start of training: ``member`` needs an attack and
            there is none, or the weights of a layer of the classifier cannot be drawn afresh.
    """

    paper = Paper(
        "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
        "Lakshminarayanan, Balaji and Pritzel, Alexander and Blundell, Charles",
        2017,
        "https://arxiv.org/abs/1612.01474",
    )

    trains_classifier: ClassVar[bool] = True

    member: ClassifierTraining = PGDAdversarialTraining()  # noqa: RUF009 - a frozen value
    members: int = 5

    def __post_init__(self) -> None:
        require(self, "members", at_least=1)

    def for_steps(self, steps: int) -> DeepEnsemble:
        """The same method; the schedules of a member are those for its share of the steps."""
        member: Any = self.member.for_steps(max(1, steps // self.members))
        return replace(self, member=member)

    def learner(self, task: Task) -> DeepEnsembleLearner:
        return DeepEnsembleLearner(self, task)


class DeepEnsembleLearner(Learner):
    taken: Tensor

    def __init__(self, method: DeepEnsemble, task: Task) -> None:
        super().__init__()
        tasks = [replace(task, untrained=fresh_copy(task.untrained)) for _ in range(method.members)]
        self.learners = nn.ModuleList(map(method.member.learner, tasks))
        self.register_buffer("taken", torch.tensor(0))

    @property
    def least_steps(self) -> int:
        return len(self.learners)

    @property
    def highest_lr(self) -> float:
        return max(learner.highest_lr for learner in self._learners)

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        # f_m: the member whose turn it is, against its own adversary.
        learner = self._learners[int(self.taken) % len(self.learners)]
        self.taken += 1
        return learner.step(x, y, rng=rng)

    def outcome(self) -> Outcome:
        # f: the mean of the members.
        networks = (learner.outcome().classifier for learner in self._learners)
        return Outcome(Members(*networks).eval(), retrained=True)

    @property
    def _learners(self) -> list[Learner]:
        return cast("list[Learner]", [*self.learners])
