"""Views: what the attacker differentiates in place of the victim.

The threat model says what the attacker may submit; the view says what the attacker knows. Which
views suit a victim follows from what its purifier declares: that it is there at all, that it draws
at random (:class:`~spearshield.method.RandomPurifier`), that it rejects images
(:class:`~spearshield.method.Detects`), that it offers a ``differentiable_approximation``.
"""

from __future__ import annotations

import abc
import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spearshield.method import Defended, Detects, Generates, RandomPurifier
from spearshield.types import Classifier, Images, Logits


@dataclass(frozen=True)
class View(abc.ABC):
    """A value that turns a victim into the classifier that the attacker differentiates."""

    @abc.abstractmethod
    def __call__(self, victim: Defended) -> Classifier:
        """The classifier the attacker works on."""

    @abc.abstractmethod
    def applies_to(self, purifier: nn.Module) -> bool:
        """Whether this view tells the attacker something about ``purifier`` that others do not."""

    @classmethod
    def cli_name(cls) -> str:
        """What this kind of view is called on the command line."""
        return re.sub("(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    def __str__(self) -> str:
        return self.cli_name()


@dataclass(frozen=True)
class Oblivious(View):
    """The attacker does not know of the purifier: the bare classifier (gray-box).

    The setting of most published tables. It is an upper bound on robustness and never a headline.
    """

    def __call__(self, victim: Defended) -> Classifier:
        return victim.classifier

    def applies_to(self, purifier: nn.Module) -> bool:
        return _purifies(purifier)


@dataclass(frozen=True)
class Adaptive(View):
    """The attacker differentiates the victim as it is (white-box, exact gradient)."""

    def __call__(self, victim: Defended) -> Classifier:
        return victim

    def applies_to(self, purifier: nn.Module) -> bool:  # noqa: ARG002
        return True


@dataclass(frozen=True)
class Transferred(View):
    """The attacker has worked elsewhere, as on another classifier, and only now meets the victim.

    For attacks that were learnt or made before. What still asks for answers gets the victim's.
    """

    def __call__(self, victim: Defended) -> Classifier:
        return victim

    def applies_to(self, purifier: nn.Module) -> bool:  # noqa: ARG002
        return True


@dataclass(frozen=True)
class BPDA(View):
    """Purify on the way forward, pass the gradient of something simpler on the way back.

    Backward Pass Differentiable Approximation: Athalye, Carlini, Wagner, "Obfuscated Gradients Give
    a False Sense of Security", 2018, https://arxiv.org/abs/1802.00420, section 4. The identity
    (4.1) is right where a purifier changes an image little: ``purifier(x)`` is near ``x``.

    Args:
        through: What the gradient goes through: the ``identity``, or the ``approximation``: the
            purifier's attribute ``differentiable_approximation``, a differentiable function whose
            output is close to the purifier's.
    """

    through: Literal["identity", "approximation"] = "identity"

    def __call__(self, victim: Defended) -> Classifier:
        def view(x: Images) -> Logits:
            with torch.no_grad():
                x_hat = victim.purifier(x)
            near = x if self.through == "identity" else _approximation(victim.purifier)(x)
            answer = _StraightThrough.apply(near, x_hat)  # type: ignore[no-untyped-call]
            logits: Logits = victim.classifier(answer)
            return logits

        return view

    def applies_to(self, purifier: nn.Module) -> bool:
        offered = self.through == "identity" or hasattr(purifier, "differentiable_approximation")
        return _purifies(purifier) and offered

    def __str__(self) -> str:
        return "bpda" if self.through == "identity" else "bpda(approximation)"


@dataclass(frozen=True)
class EOT(View):
    """Logits averaged over ``draws`` answers of a random purifier, none of them the deployed one.

    Expectation over transformation: Athalye, Engstrom, Ilyas, Kwok, "Synthesizing Robust
    Adversarial Examples", 2018, https://arxiv.org/abs/1707.07397. The mean is taken over logits,
    and the gradient is the exact gradient of that mean. For a purifier that does not draw this is
    the adaptive view.

    Raises:
        ValueError: ``draws`` is not positive.
    """

    draws: int = 20

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1, got {self.draws}")

    def __call__(self, victim: Defended) -> Classifier:
        purifier = victim.purifier
        if not isinstance(purifier, RandomPurifier):
            return victim

        def view(x: Images) -> Logits:
            answers = [victim.classifier(purifier(x, draw=k + 1)) for k in range(self.draws)]
            return torch.stack(answers).mean(0)

        return view

    def applies_to(self, purifier: nn.Module) -> bool:
        return isinstance(purifier, RandomPurifier)

    def __str__(self) -> str:
        return f"eot({self.draws})"


@dataclass(frozen=True)
class DetectorAware(View):
    """The victim as it is, suspicion and all: for attacks that mean to stay unnoticed.

    Such an attack finds on the model that it is given what the victim's purifier
    :class:`~spearshield.method.Detects`. Others can use this view too, but attack the class alone.
    """

    def __call__(self, victim: Defended) -> Classifier:
        return victim

    def applies_to(self, purifier: nn.Module) -> bool:
        return isinstance(purifier, Detects)


@dataclass(frozen=True)
class InRange(View):
    """The victim as it is, generator and all: for attacks that search the generator's images.

    Such an attack finds on the model that it is given what the victim's purifier
    :class:`~spearshield.method.Generates`.
    """

    def __call__(self, victim: Defended) -> Classifier:
        return victim

    def applies_to(self, purifier: nn.Module) -> bool:
        return isinstance(purifier, Generates)


def _approximation(purifier: nn.Module) -> Classifier:
    approximation: Classifier = purifier.differentiable_approximation  # type: ignore[assignment]
    return approximation


def _purifies(purifier: nn.Module) -> bool:
    return not isinstance(purifier, nn.Identity)


class _StraightThrough(torch.autograd.Function):
    """The second image forward, to the bit; the gradient goes to the first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, x_hat: Tensor) -> Tensor:  # noqa: ARG004
        return x_hat.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradient, None
