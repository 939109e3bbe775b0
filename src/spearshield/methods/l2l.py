"""L2L: a classifier trained against a network that sees the gradient of the classifier.

Jiang, Chen, Shi, Dai, Zhao, "Learning to Defend by Learning to Attack", 2021.
https://proceedings.mlr.press/v130/jiang21a.html

    f  classifier  image -> logits                        the defence
    A  attacker    (image, gradient) -> [-1, 1]           the attack

    u(x')   = gradient of CE(f(x'), y) in x', divided by its largest absolute value
    x_0     = x
    x_(k+1) = x_k + eps A(x_k, u(x_k)), projected into the threat model;   x_adv = x_K

    L_A = -KL(f(x) || f(x_adv))
    L_f = CE(f(x), y) + beta KL(f(x) || f(x_adv))         trades
    L_A = -CE(f(x_adv), y),  L_f = CE(f(x_adv), y)        cross-entropy

K = 1 is Grad L2L, K = 2 is 2-step L2L. Each batch gives one step of A and one step of f.

Differences from the paper. The text of the paper was not available; losses, networks and numbers
follow the authors' code, https://github.com/YuyangShi/Learning-to-Defend-by-Learning-to-Attack. A
gradient is divided by the largest value of its image, in place of the largest value of the batch,
so that images do not depend on each other. The sum of perturbations is projected after each call.
A is in training mode while f is trained. The weights of A have no penalty. A is updated before f,
its network is the slim one of the code, and TRADES' loss is the default; the training scripts of
the code update f first, with the wide network and the cross-entropy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.nn.functional import cross_entropy

from spearshield.losses.kl import kl_divergence
from spearshield.method import Outcome, Paper, Task
from spearshield.nets.l2l import L2LAttacker
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel
from spearshield.training.classifier_training import (
    AdversarialTraining,
    ClassifierLearner,
    accuracy,
    shrunk,
)
from spearshield.training.guided_attack import GuidedAttack
from spearshield.training.optim import minimise, set_lr
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class L2L(AdversarialTraining):
    """Hyper-parameters of L2L; further settings are those of ``AdversarialTraining``.

    Args:
        threat: The threat model of the attacker. The paper's for CIFAR-10 is L-infinity 0.031.
        calls: Number K of calls of the attacker, each with a gradient: 1 or 2 in the paper.
        width: Channels of the attacker's first convolution; the authors' code has 128.
        loss: ``trades`` or ``cross_entropy``.
        beta: Weight of the divergence, for ``trades``.
        attacker_lr: Learning rate of the attacker's Adam; it decays with the classifier's.

    Raises:
        ValueError: A number is out of range.
    """

    paper = Paper(
        "Learning to Defend by Learning to Attack",
        "Jiang, Haoming and Chen, Zhehui and Shi, Yuyang and Dai, Bo and Zhao, Tuo",
        2021,
        "https://proceedings.mlr.press/v130/jiang21a.html",
    )

    threat: ThreatModel = Linf(0.3)  # noqa: RUF009 - a frozen value
    calls: int = 1
    width: int = 32
    loss: Literal["trades", "cross_entropy"] = "trades"
    beta: float = 1.0
    attacker_lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        ThreatModel.check(self.threat)
        require(self, "calls", "width", at_least=1)
        require(self, "beta", "attacker_lr", at_least=0)
        require(self, "loss", one_of=("trades", "cross_entropy"))

    def learner(self, task: Task) -> L2LLearner:
        return L2LLearner(self, task)


class L2LLearner(ClassifierLearner):
    def __init__(self, method: L2L, task: Task) -> None:
        super().__init__(method, task)
        self.A = L2LAttacker(task.shape[0], method.width)
        self.opt_a = torch.optim.Adam(self.A.parameters(), method.attacker_lr)

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, f, n = self.method, self.attacked(), len(x)
        set_lr(method.attacker_lr * self.decay, self.opt_a)
        attack = self.attack(self.share)
        x_adv = attack.images(f, x, y)
        watched = self.watched(x, y, x_adv.detach(), attack.threat, rng)

        # A: max of the loss of its images.
        if method.loss == "trades":
            loss_a = -kl_divergence(f(x).detach(), f(x_adv)).mean()
        else:
            loss_a = -cross_entropy(f(x_adv), y)
        minimise(self.opt_a, loss_a)

        # f: min over theta.
        if method.loss == "trades":
            logits = self.logits(torch.cat([x, x_adv.detach()]))
            clean, adversarial = logits[:n], logits[n:]
            loss = cross_entropy(clean, y) + method.beta * kl_divergence(clean, adversarial).mean()
        else:
            adversarial = self.logits(x_adv.detach())
            loss = cross_entropy(adversarial, y)
        self.minimise(loss)
        return {
            "attacker": -loss_a.item(),
            "loss": loss.item(),
            "adversarial": accuracy(adversarial, y),
            **watched,
        }

    def attack(self, share: float = 1.0) -> GuidedAttack:
        """The attack with the current attacker, in training mode."""
        threat = shrunk(self.method.threat, share)
        return GuidedAttack(threat, self.A.train(), self.method.calls)

    def outcome(self) -> Outcome:
        attack = self.attack()
        attack.network.eval()
        return replace(super().outcome(), attack=attack)
