"""A mixture of attacks, to train on several at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spearshield.adversary import Attack
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class Mixture(Attack):
    """Each image is attacked by one of several attacks, which is drawn at random.

    Args:
        attacks: Attacks within ``threat``.

    Raises:
        ValueError: There is no attack, or one has another threat model.
    """

    attacks: tuple[Attack, ...]

    def __post_init__(self) -> None:
        if not self.attacks:
            raise ValueError("attacks must have at least one attack, got none")
        for attack in self.attacks:
            if attack.threat != self.threat:
                raise ValueError(
                    f"every attack must have the threat model {self.threat}, got {attack.threat}"
                )

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        drawn = rng.fold(0).integers((), len(self.attacks))
        x_adv = torch.empty_like(x)
        for number, attack in enumerate(self.attacks):
            own = (drawn == number).nonzero()[:, 0]
            if len(own) > 0:
                own_rng = rng.fold(1 + number)[own]
                x_adv[own] = attack.perturb(model, x[own], y[own], own_rng)
        return x_adv
