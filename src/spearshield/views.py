"""Views: the classifier that an attacker differentiates, made from the victim.

The threat model limits the images that the attacker may submit; the view is the attacker's
knowledge of the victim. The purifiers of the victim decide whether a view applies: whether there is
one, and whether one is random (:class:`~spearshield.method.RandomPurifier`), rejects images
(:class:`~spearshield.method.Detects`), searches the range of a generator
(:class:`~spearshield.method.Generates`) or has a ``differentiable_approximation``.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from spearshield.inputs import placed
from spearshield.method import Defended, Generates, Purifiers
from spearshield.ranges import require
from spearshield.types import Classifier, Images, Logits


@dataclass(frozen=True)
class View(abc.ABC):
    """A frozen value that maps a victim to the classifier that the attacker differentiates."""

    needs: ClassVar[str] = ""
    """The part of a victim without which the view does not apply."""

    @abc.abstractmethod
    def __call__(self, victim: Defended) -> Classifier:
        """The classifier that the attack is called with."""

    @abc.abstractmethod
    def applies_to(self, victim: Defended) -> bool:
        """True if attacks through this view can differ from attacks through the other views."""

    @classmethod
    def cli_name(cls) -> str:
        """The name of this type of view on the command line."""
        return re.sub("(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    def __str__(self) -> str:
        return self.cli_name()


@dataclass(frozen=True)
class Oblivious(View):
    """The classifier without its purifier: the attacker is unaware of the defence (gray-box).

    The setting of most published tables. Robust accuracy under this view is only an upper bound.
    """

    needs = "a purifier"

    def __call__(self, victim: Defended) -> Classifier:
        return victim.classifier

    def applies_to(self, victim: Defended) -> bool:
        return len(victim.purifiers) > 0


@dataclass(frozen=True)
class Adaptive(View):
    """The victim itself: white-box, with the exact gradient."""

    def __call__(self, victim: Defended) -> Classifier:
        return victim

    def applies_to(self, victim: Defended) -> bool:  # noqa: ARG002
        return True


@dataclass(frozen=True)
class Transferred(View):
    """The victim itself, for attacks that were trained or computed on another classifier.

    Such an attack does not differentiate the victim; its queries, if any, go to the victim.
    """

    def __call__(self, victim: Defended) -> Classifier:
        return victim

    def applies_to(self, victim: Defended) -> bool:  # noqa: ARG002
        return True


@dataclass(frozen=True)
class BPDA(View):
    """The purifier in the forward pass, a differentiable approximation in the backward pass.

    Backward Pass Differentiable Approximation: Athalye, Carlini, Wagner, "Obfuscated Gradients Give
    a False Sense of Security", 2018, https://arxiv.org/abs/1802.00420, section 4. The identity
    (section 4.1) is appropriate if the purifier changes an image little.

    Args:
        through: ``identity``, in place of every purifier; or ``approximation``, in place of every
            purifier with an attribute ``differentiable_approximation``, a differentiable function
            with a similar output.

    Raises:
        ValueError: ``through`` is unknown.
    """

    needs = "a purifier (bpda(approximation): with a differentiable_approximation)"
    through: Literal["identity", "approximation"] = "identity"

    def __post_init__(self) -> None:
        require(self, "through", one_of=("identity", "approximation"))

    def __call__(self, victim: Defended) -> Classifier:
        purifiers, classifier = victim.purifiers, victim.innermost

        def view(x: Images, draw: int = 0) -> Logits:
            if self.through == "identity":
                x = _replaced(purifiers, x, x.clone(), draw)
            else:
                for purifier in purifiers:
                    x = _approximated(purifier, x, draw)
            logits: Logits = classifier(placed(x, classifier))
            return logits

        return view

    def applies_to(self, victim: Defended) -> bool:
        if self.through == "identity":
            return len(victim.purifiers) > 0
        return any(hasattr(p, "differentiable_approximation") for p in victim.purifiers)

    def __str__(self) -> str:
        return "bpda" if self.through == "identity" else "bpda(approximation)"


@dataclass(frozen=True)
class EOT(View):
    """Logits averaged over ``draws`` draws of the random purifiers, excluding the deployed one.

    Expectation over transformation: Athalye, Engstrom, Ilyas, Kwok, "Synthesizing Robust
    Adversarial Examples", 2018, https://arxiv.org/abs/1707.07397. The mean is over logits, and the
    gradient is the gradient of that mean: exact, or each draw's through BPDA. Without a random
    purifier this is the view ``of`` one draw.

    Args:
        draws: Number of draws; each costs a forward and a backward pass of the victim.
        of: The view of one draw: the victim itself, or BPDA, for a random purifier without a useful
            gradient.

    Raises:
        ValueError: ``draws`` is not from 1 to 10,000.
    """

    needs = "a purifier that draws at random"
    draws: int = 20
    of: Adaptive | BPDA = Adaptive()

    def __post_init__(self) -> None:
        require(self, "draws", at_least=1, at_most=10_000)

    def __call__(self, victim: Defended) -> Classifier:
        one: Callable[..., Logits] = self.of(victim)
        if not victim.purifiers.are_random:
            return one

        def view(x: Images) -> Logits:
            draws = [one(x.clone(), draw=k + 1) for k in range(self.draws)]
            return torch.stack(draws).mean(0)

        return view

    def applies_to(self, victim: Defended) -> bool:
        return victim.purifiers.are_random and self.of.applies_to(victim)

    def __str__(self) -> str:
        return f"eot({self.draws})" if self.of == Adaptive() else f"eot({self.draws}, {self.of})"


@dataclass(frozen=True)
class DetectorAware(View):
    """The victim with its detector, for attacks that also evade detection.

    Such an attack calls :meth:`~spearshield.method.Detects.detection_score` of the model. Other
    attacks through this view ignore the detector.
    """

    needs = "a purifier that rejects images"

    def __call__(self, victim: Defended) -> Classifier:
        return victim

    def applies_to(self, victim: Defended) -> bool:
        return victim.purifiers.detect


@dataclass(frozen=True)
class InRange(View):
    """The victim with its generator, for attacks that search the range of the generator.

    Such an attack calls :meth:`~spearshield.method.Generates.search` of the purifier. Purifiers in
    front of the generator are left out.
    """

    needs = "a purifier with a generator"

    def __call__(self, victim: Defended) -> Classifier:
        purifiers = [*victim.purifiers]
        at = next((i for i, p in enumerate(purifiers) if isinstance(p, Generates)), None)
        if at is None or isinstance(victim.purifier, Generates):
            return victim
        behind = Defended(Purifiers(*purifiers[at + 1 :]), victim.innermost)
        return Defended(purifiers[at], behind)

    def applies_to(self, victim: Defended) -> bool:
        return any(isinstance(purifier, Generates) for purifier in victim.purifiers)


def _approximated(purifier: nn.Module, x: Tensor, draw: int) -> Tensor:
    """The output of a purifier, with the gradient of its approximation if it has one."""
    approximation = getattr(purifier, "differentiable_approximation", None)
    if approximation is None:
        x_hat: Tensor = Purifiers(purifier)(x, draw)
        return x_hat
    return _replaced(Purifiers(purifier), x, approximation(placed(x, purifier)), draw)


def _replaced(purifiers: Purifiers, x: Tensor, smooth: Tensor, draw: int) -> Tensor:
    """The output of purifiers, with the gradient of ``smooth``."""
    with torch.no_grad():
        x_hat = purifiers(x, draw)
    replaced: Tensor = _StraightThrough.apply(smooth, x_hat)  # type: ignore[no-untyped-call]
    return replaced


class _StraightThrough(torch.autograd.Function):
    """Returns the second argument unchanged and passes the gradient to the first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, x_hat: Tensor) -> Tensor:  # noqa: ARG004
        return x_hat.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradient, None
