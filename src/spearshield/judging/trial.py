"""Trials: an attack and its view."""

from __future__ import annotations

from dataclasses import dataclass

from spearshield import discover
from spearshield.adversary import Attack
from spearshield.ranges import require
from spearshield.training.learned_attack import AttackFrom, LearnedAttack
from spearshield.training.precomputed_attack import PrecomputedAttack
from spearshield.training.transfer_attack import Transfer, TransferFrom
from spearshield.views import Adaptive, Transferred, View

MADE_ELSEWHERE = (LearnedAttack, AttackFrom, Transfer, TransferFrom, PrecomputedAttack)
"""The attacks that are made before they see the victim, or on other classifiers."""


@dataclass(frozen=True)
class Trial:
    """One attack through one view.

    Args:
        images: Number of images to attack, from the first; 0: all.
        survivors: Attack only the images that earlier trials with the same threat model did not
            break. The score is then the worst case over these trials and this one.

    Raises:
        ValueError: ``images`` is negative, or the view is ``Transferred`` and the attack
            differentiates or queries the victim itself.
    """

    attack: Attack
    view: View = Adaptive()  # noqa: RUF009 - a frozen value
    images: int = 0
    survivors: bool = False

    def __post_init__(self) -> None:
        require(self, "images", at_least=0)
        if isinstance(self.view, Transferred) and not isinstance(self.attack, MADE_ELSEWHERE):
            raise ValueError(
                f"{discover.name_of(self.attack)} attacks the victim itself; choose another view"
            )
