"""An attack that has been learnt: a network makes the images, and asks the victim nothing.

What generative attacks and universal perturbations leave behind, after Baluja, Fischer,
"Adversarial Transformation Networks: Learning to Generate Adversarial Examples", 2017,
https://arxiv.org/abs/1703.09387.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from spearshield.attack import Attack
from spearshield.discover import name_of
from spearshield.rng import Rng
from spearshield.training.loop import Training
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class LearnedAttack(Attack):
    """The network's answer, projected into ``threat``; the model and the labels are not looked at.

    Args:
        network: Maps images in [0, 1] to images of the same shape; in evaluation mode.
        training: How it was trained, for the record: its steps times its batch size are the images
            it was shown.
        queries: Images that a black box was asked about while it was learnt; for the record.

    Raises:
        ValueError: When called: the network is in training mode, in which images of a batch may
            depend on each other; or its answer is not of the images' shape.
    """

    gradient_free: ClassVar[bool] = True

    network: nn.Module
    training: Training | None = None
    queries: int = 0

    @property
    def display_name(self) -> str:
        """The name of the training that it was learnt in."""
        return name_of(self.training) if self.training else "learned"

    @torch.no_grad()
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        if any(module.training for module in self.network.modules()):
            raise ValueError("the attack's network is in training mode; call .eval() on it first")
        x_adv = self.network(x)
        if x_adv.shape != x.shape:
            raise ValueError(
                f"the attack's network turns {tuple(x.shape)} into {tuple(x_adv.shape)}; "
                "it must keep the shape of the images"
            )
        return self.threat.project(x_adv, x)


class AttackAsModule(nn.Module):
    """A learned attack as a network from images to images, which needs no labels."""

    def __init__(self, attack: LearnedAttack) -> None:
        super().__init__()
        self.network = attack.network
        self.threat = attack.threat

    def forward(self, x: Images) -> Images:
        return self.threat.project(self.network(x), x)


@dataclass(frozen=True)
class AttackFrom(Attack):
    """The attack that a training of the same recipe leaves behind; a run puts it in place of this.

    Args:
        training: The training's name.

    Raises:
        ValueError: When called: it is not an attack until its run has found it.
    """

    gradient_free: ClassVar[bool] = True

    training: str

    @property
    def display_name(self) -> str:
        """The name of the training."""
        return self.training

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        raise ValueError(
            f"the attack that {self.training!r} leaves behind is known to a run of its recipe alone"
        )
