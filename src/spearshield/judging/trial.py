"""A trial: one attack that a victim meets, through one view."""

from __future__ import annotations

from dataclasses import dataclass

from spearshield import discover
from spearshield.attack import Attack
from spearshield.training.learned_attack import AttackFrom, LearnedAttack
from spearshield.training.transfer_attack import Transfer
from spearshield.views import Adaptive, Transferred, View


@dataclass(frozen=True)
class Trial:
    """One attack through one view.

    Args:
        images: How many of the recipe's images it is made on, from the first; 0: all.
        survivors: Attack only what earlier trials of the same budget left unbroken. Its score is
            then that of all of them together.

    Raises:
        ValueError: ``images`` is negative, or an attack that works on the victim is said to be
            transferred.
    """

    attack: Attack
    view: View = Adaptive()  # noqa: RUF009 - a frozen value
    images: int = 0
    survivors: bool = False

    def __post_init__(self) -> None:
        if self.images < 0:
            raise ValueError(f"images must be >= 0, got {self.images}")
        made_before = isinstance(self.attack, (LearnedAttack, AttackFrom, Transfer))
        if isinstance(self.view, Transferred) and not made_before:
            raise ValueError(
                f"{discover.name_of(self.attack)} works on its victim; choose another view"
            )
