"""PGD adversarial training: a classifier learns the attacker's images instead of the clean ones.

Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial
Attacks", 2018. https://arxiv.org/abs/1706.06083

    min over theta of  E max over delta in the threat model of  CE(f_theta(x + delta), y)

Differences from the paper: the budget grows from zero over the first steps, because small networks
can fail to start at the full budget of MNIST; the optimiser is Adam with a cosine decay; the inner
attack, steps and restarts included, is the task's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from spearshield.attack import Attack
from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen, minimise
from spearshield.rng import Rng
from spearshield.training.optim import cosine
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class PGDAdversarialTraining(Method):
    """Cross-entropy on images of the task's attack, made against the weights of the moment.

    Args:
        lr: Learning rate of Adam at the start.
        hold_steps: Steps before it begins to fall.
        decay_steps: Steps over which it then falls to zero along a half cosine; 0: it stays.
        warmup_steps: Steps over which the budget grows linearly to the attack's own.
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

    def learner(self, task: Task) -> PGDAdversarialLearner:
        return PGDAdversarialLearner(self, task)


class PGDAdversarialLearner(Learner):
    seen: torch.Tensor

    def __init__(self, method: PGDAdversarialTraining, task: Task) -> None:
        super().__init__()
        self.method = method
        self.attack = task.attack
        self.classifier = copy.deepcopy(task.untrained)
        self.optimiser = torch.optim.Adam(self.classifier.parameters(), method.lr)
        self.register_buffer("seen", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, seen = self.method, int(self.seen)
        self.optimiser.param_groups[0]["lr"] = cosine(
            method.lr, seen, method.decay_steps, method.hold_steps
        )
        growth = min(1.0, (seen + 1) / (method.warmup_steps + 1))

        # max over delta: the attack, on the classifier as it is now.
        x_adv = shrunk(self.attack, growth)(frozen(self.classifier), x, y, rng=rng)

        # min over theta.
        self.classifier.train()
        logits = self.classifier(x_adv)
        loss = cross_entropy(logits, y)
        minimise(self.optimiser, loss)
        self.seen += 1
        return {
            "cross_entropy": loss.item(),
            "accuracy": (logits.argmax(1) == y).float().mean().item(),
        }

    def outcome(self) -> Outcome:
        return Outcome(self.classifier.eval())


def shrunk(attack: Attack, share: float) -> Attack:
    """The same attack with a share of its budget, and of the length of its steps if it has one."""
    changes: dict[str, Any] = {"threat": replace(attack.threat, eps=share * attack.threat.eps)}
    if getattr(attack, "step_size", None) is not None:
        changes["step_size"] = share * attack.step_size  # type: ignore[attr-defined]
    return replace(attack, **changes)
