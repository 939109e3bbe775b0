"""PGD adversarial training: a classifier trained on adversarial images in place of clean ones.

Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial
Attacks", 2018. https://arxiv.org/abs/1706.06083

    min over theta of  E max over delta in the threat model of  CE(f_theta(x + delta), y)

Differences from the paper. eps grows from zero over the first steps, because the training of small
networks can fail to start at the full eps of MNIST. The optimiser is Adam with a cosine decay. The
attack is the task's, with its own steps and restarts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from spearshield.adversary import Attack
from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class PGDAdversarialTraining(Method):
    """Cross-entropy on adversarial images of the current classifier, by the task's attack.

    Args:
        lr: Learning rate of Adam at the start.
        hold_steps: Steps with this learning rate.
        decay_steps: Steps over which it then decays to zero on a half cosine; 0: it is constant.
        warmup_steps: Steps over which eps grows linearly to the eps of the attack.

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

    lr: float = 1e-3
    hold_steps: int = 0
    decay_steps: int = 0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        require(self, "lr", "hold_steps", "decay_steps", "warmup_steps", at_least=0)

    def learner(self, task: Task) -> PGDAdversarialLearner:
        return PGDAdversarialLearner(self, task)


class PGDAdversarialLearner(Learner):
    taken: torch.Tensor

    def __init__(self, method: PGDAdversarialTraining, task: Task) -> None:
        super().__init__()
        self.method = method
        self.attack = task.attack
        self.classifier = copy.deepcopy(task.untrained)
        self.optimiser = torch.optim.Adam(self.classifier.parameters(), method.lr)
        self.register_buffer("taken", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, taken = self.method, int(self.taken)
        self.taken += 1
        set_lr(cosine(method.lr, taken, method.decay_steps, method.hold_steps), self.optimiser)
        share = min(1.0, (taken + 1) / (method.warmup_steps + 1))

        # max over delta: the attack on the current classifier.
        x_adv = scaled(self.attack, share)(frozen(self.classifier), x, y, rng=rng)

        # min over theta.
        logits = self.classifier.train()(x_adv)
        loss = cross_entropy(logits, y)
        minimise(self.optimiser, loss)
        return {
            "cross_entropy": loss.item(),
            "accuracy": (logits.argmax(1) == y).float().mean().item(),
        }

    def outcome(self) -> Outcome:
        return Outcome(self.classifier.eval())


def scaled(attack: Attack, share: float) -> Attack:
    """The attack with its eps, and the lengths of its steps if given, multiplied by ``share``."""
    lengths = {name: getattr(attack, name, None) for name in ("step_size", "alpha")}
    changes: dict[str, Any] = {k: share * v for k, v in lengths.items() if v is not None}
    return replace(attack, threat=replace(attack.threat, eps=share * attack.threat.eps), **changes)
