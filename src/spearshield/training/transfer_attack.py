"""Transfer attack: adversarial images of other classifiers, submitted to the victim.

Papernot, McDaniel, Goodfellow, "Transferability in Machine Learning: from Phenomena to Black-Box
Attacks using Adversarial Samples", 2016. https://arxiv.org/abs/1605.07277
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from spearshield import foreign
from spearshield.adversary import Attack, misclassified
from spearshield.attacks.pgd import PGD
from spearshield.discover import name_of
from spearshield.gradients import NoGradientError
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import ThreatModel
from spearshield.training.loop import Training
from spearshield.types import Classifier, Images, Labels


class SourceError(ValueError):
    """A source of a transfer attack cuts the graph between images and logits.

    Args:
        name: The name of the source.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}, a source of transferred attacks, passes no gradient to its images; name "
            "another model"
        )


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
        names: Names of the sources in the run that trained them, for the record; empty elsewhere.

    Raises:
        SourceError: When called: a source cuts the graph, and the attack needs its gradient.
        ValueError: There are no sources, ``attack`` has another threat model, or ``queries`` is
            negative.
    """

    gradient_free: ClassVar[bool] = True

    sources: tuple[nn.Module, ...]
    attack: Attack | None = None
    queries: int = 0
    training: Training | None = None
    names: tuple[str, ...] = ()

    @property
    def display_name(self) -> str:
        """The name of the training, or the names of the attack and its sources."""
        if self.training:
            return name_of(self.training)
        return _title(self.on_sources, self.names) if self.names else "transfer"

    @property
    def on_sources(self) -> Attack:
        """The attack on the sources."""
        return _on_sources(self.attack, self.threat)

    @property
    def _source_names(self) -> Sequence[str]:
        """The names of the sources, or of their classes."""
        return self.names or [foreign.name_of(source) for source in self.sources]

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("a transfer attack needs at least one source classifier")
        _check_threat(self.attack, self.threat)
        require(self, "queries", at_least=0)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        attack, best = self.on_sources, x.clone()
        left = torch.arange(len(x), device=x.device)
        for source, name in zip(self.sources, self._source_names, strict=True):
            try:
                best[left] = attack(source, x[left], y[left], rng=rng[left])
            except NoGradientError as error:
                raise SourceError(name) from error
            left = left[~misclassified(model, best[left], y[left])]
            if len(left) == 0:
                break
        return best


@dataclass(frozen=True)
class TransferFrom(Attack):
    """A reference, in a trial of a recipe, to a :class:`Transfer` from its defended classifiers.

    A run replaces it, and gives the trial the view that follows from the sources: adaptive on a
    source itself, oblivious behind a purifier in front of a source, else transferred. With one
    trial for each training, the rows are a matrix of victims and sources.

    Args:
        training: Name of the training whose defended classifier is attacked.
        attack: The attack on it, under the same ``threat``; ``None``: see :class:`Transfer`.
        more: Names of further trainings, whose classifiers are attacked in turn.

    Raises:
        ValueError: When called.
    """

    gradient_free: ClassVar[bool] = True

    training: str
    attack: Attack | None = None
    more: tuple[str, ...] = ()

    @property
    def trainings(self) -> tuple[str, ...]:
        """The names of the trainings that it refers to."""
        return (self.training, *self.more)

    @property
    def display_name(self) -> str:
        """The names of the attack and its sources, as in ``fgsm_from_standard_training~2``."""
        return _title(_on_sources(self.attack, self.threat), self.trainings)

    def check(self) -> None:
        """Raise if the attack on the sources has another threat model.

        It is not checked at once, so that the two can be changed one after the other.

        Raises:
            ValueError: Names both threat models.
        """
        _check_threat(self.attack, self.threat)

    def of(self, sources: Sequence[nn.Module]) -> Transfer:
        """The attack itself.

        Args:
            sources: The classifiers of ``trainings``.
        """
        return Transfer(self.threat, tuple(sources), self.attack, names=self.trainings)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        raise ValueError(
            f"this is only a reference to the classifiers of {', '.join(self.trainings)}; a run of "
            "their recipe replaces it"
        )


def _on_sources(attack: Attack | None, threat: ThreatModel) -> Attack:
    return attack or PGD(threat, steps=40, early_stop=False)


def _check_threat(attack: Attack | None, threat: ThreatModel) -> None:
    if attack and attack.threat != threat:
        raise ValueError(f"the attack is on {attack.threat}, not {threat}")


def _title(attack: Attack, names: Sequence[str]) -> str:
    return f"{name_of(attack)}_from_{'_and_'.join(names)}"
