"""Transfer attack: adversarial images of other classifiers, submitted to the victim.

Papernot, McDaniel, Goodfellow, "Transferability in Machine Learning: from Phenomena to Black-Box
Attacks using Adversarial Samples", 2016. https://arxiv.org/abs/1605.07277
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from spearshield.adversary import Attack, misclassified
from spearshield.attacks.pgd import PGD
from spearshield.discover import name_of
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.loop import Training
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class Transfer(Attack):
    """Attacks the sources in turn, until the victim misclassifies the image.

    The victim is queried once per image and source, for its predicted class only.

    Args:
        sources: The classifiers that are attacked, in evaluation mode.
        attack: The attack on the sources; ``None``: PGD of 40 steps without early stopping. An
            attack that stops as soon as the source misclassifies an image transfers less well.
        queries: Number of images that the victim was queried with in the training of the sources,
            for the record.
        training: The training of the sources, for the record.

    Raises:
        ValueError: There are no sources, ``attack`` has another threat model, or ``queries`` is
            negative.
    """

    gradient_free: ClassVar[bool] = True

    sources: tuple[nn.Module, ...]
    attack: Attack | None = None
    queries: int = 0
    training: Training | None = None

    @property
    def display_name(self) -> str:
        """The name of the training."""
        return name_of(self.training) if self.training else "transfer"

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("a transfer attack needs at least one source classifier")
        if self.attack and self.attack.threat != self.threat:
            raise ValueError(f"the attack is on {self.attack.threat}, not {self.threat}")
        require(self, "queries", at_least=0)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        attack = self.attack or PGD(self.threat, steps=40, early_stop=False)
        best = x.clone()
        left = torch.arange(len(x), device=x.device)
        for source in self.sources:
            best[left] = attack(source, x[left], y[left], rng=rng[left])
            left = left[~misclassified(model, best[left], y[left])]
            if len(left) == 0:
                break
        return best
