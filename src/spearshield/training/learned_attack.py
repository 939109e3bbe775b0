"""Learned attacks: a network makes the adversarial images, without queries to the victim.

Generative attacks and universal perturbations end in such an attack: Baluja, Fischer, "Adversarial
Transformation Networks: Learning to Generate Adversarial Examples", 2017,
https://arxiv.org/abs/1703.09387.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from spearshield.adversary import Attack
from spearshield.discover import name_of
from spearshield.inputs import placed
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.loop import Training
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class LearnedAttack(Attack):
    """The network's output, projected into ``threat``; neither model nor labels are used.

    Args:
        network: Maps images in [0, 1] to images of the same shape; in evaluation mode.
        training: The training of the network, for the record.
        queries: Number of images that a black box was queried with in training, for the record.

    Raises:
        ValueError: ``queries`` is negative. When called: the network is in training mode, so that
            the images of a batch may depend on each other, or its output has another shape than its
            input.
    """

    gradient_free: ClassVar[bool] = True

    network: nn.Module
    training: Training | None = None
    queries: int = 0

    def __post_init__(self) -> None:
        require(self, "queries", at_least=0)

    @property
    def display_name(self) -> str:
        """The name of the training."""
        return name_of(self.training) if self.training else "learned"

    @torch.no_grad()
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        if any(module.training for module in self.network.modules()):
            raise ValueError("the attack's network is in training mode; call .eval() on it first")
        images = placed(x.clone(), self.network)  # the network may change its input in place
        x_adv = self.network(images)
        if x_adv.shape != x.shape:
            raise ValueError(
                f"the attack's network turns {tuple(x.shape)} into {tuple(x_adv.shape)}; "
                "it must keep the shape of the images"
            )
        return self.threat.project(x_adv.to(x), x)


class AttackAsModule(nn.Module):
    """A learned attack as a module that maps images to adversarial images, as for export."""

    def __init__(self, attack: LearnedAttack) -> None:
        super().__init__()
        self.network = attack.network
        self.threat = attack.threat

    def forward(self, x: Images) -> Images:
        return self.threat.project(self.network(placed(x, self.network)).to(x), x)


@dataclass(frozen=True)
class AttackFrom(Attack):
    """A reference, in a recipe, to the attack of one of its trainings; a run replaces it.

    Args:
        training: Name of the training.

    Raises:
        ValueError: When called.
    """

    gradient_free: ClassVar[bool] = True

    training: str

    @property
    def trainings(self) -> tuple[str, ...]:
        """The names of the trainings that it refers to."""
        return (self.training,)

    @property
    def display_name(self) -> str:
        """The name of the training."""
        return self.training

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        raise ValueError(
            f"this is only a reference to the attack of {self.training!r}; a run of its recipe "
            "replaces it"
        )
