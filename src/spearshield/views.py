"""Views: the classifier that an attacker differentiates, made from the victim.

The threat model limits the images that the attacker may submit; the view is the attacker's
knowledge of the victim. The purifier of the victim decides whether a view applies: whether there is
a purifier, whether it is random (:class:`~spearshield.method.RandomPurifier`), rejects images
(:class:`~spearshield.method.Detects`) or searches the range of a generator
(:class:`~spearshield.method.Generates`), and whether it has a ``differentiable_approximation``.
"""

from __future__ import annotations

import abc
import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spearshield.method import Defended, Detects, Generates, RandomPurifier
from spearshield.ranges import require
from spearshield.types import Classifier, Images, Logits


@dataclass(frozen=True)
class View(abc.ABC):
    """A frozen value that maps a victim to the classifier that the attacker differentiates."""

    @abc.abstractmethod
    def __call__(self, victim: Defended) -> Classifier:
        """The classifier that the attack is called with."""

    @abc.abstractmethod
    def applies_to(self, purifier: nn.Module) -> bool:
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

    def __call__(self, victim: Defended) -> Classifier:
        return victim.classifier

    def applies_to(self, purifier: nn.Module) -> bool:
        return _purifies(purifier)


@dataclass(frozen=True)
class Adaptive(View):
    """The victim itself: white-box, with the exact gradient."""

    def __call__(self, victim: Defended) -> Classifier:
        return victim

    def applies_to(self, purifier: nn.Module) -> bool:  # noqa: ARG002
        return True


@dataclass(frozen=True)
class Transferred(View):
    """The victim itself, for attacks that were trained or computed on another classifier.

    Such an attack does not differentiate the victim; its queries, if any, go to the victim.
    """

    def __call__(self, victim: Defended) -> Classifier:
        return victim

    def applies_to(self, purifier: nn.Module) -> bool:  # noqa: ARG002
        return True


@dataclass(frozen=True)
class BPDA(View):
    """The purifier in the forward pass, a differentiable approximation in the backward pass.

    Backward Pass Differentiable Approximation: Athalye, Carlini, Wagner, "Obfuscated Gradients Give
    a False Sense of Security", 2018, https://arxiv.org/abs/1802.00420, section 4. The identity
    (section 4.1) is appropriate if the purifier changes an image little.

    Args:
        through: ``identity``, or ``approximation``: the purifier's attribute
            ``differentiable_approximation``, a differentiable function with a similar output.

    Raises:
        ValueError: ``through`` is unknown.
    """

    through: Literal["identity", "approximation"] = "identity"

    def __post_init__(self) -> None:
        require(self, "through", one_of=("identity", "approximation"))

    def __call__(self, victim: Defended) -> Classifier:
        def view(x: Images) -> Logits:
            with torch.no_grad():
                x_hat = victim.purifier(x.clone())
            smooth = x if self.through == "identity" else _approximation(victim.purifier)(x)
            purified = _StraightThrough.apply(smooth, x_hat)  # type: ignore[no-untyped-call]
            logits: Logits = victim.classifier(purified)
            return logits

        return view

    def applies_to(self, purifier: nn.Module) -> bool:
        exists = self.through == "identity" or hasattr(purifier, "differentiable_approximation")
        return _purifies(purifier) and exists

    def __str__(self) -> str:
        return "bpda" if self.through == "identity" else "bpda(approximation)"


@dataclass(frozen=True)
class EOT(View):
    """Logits averaged over ``draws`` outputs of a random purifier, excluding the deployed one.

    Expectation over transformation: Athalye, Engstrom, Ilyas, Kwok, "Synthesizing Robust
    Adversarial Examples", 2018, https://arxiv.org/abs/1707.07397. The mean is over logits, and the
    gradient is the exact gradient of that mean. For a deterministic purifier this is the adaptive
    view.

    Args:
        draws: Number of outputs; each costs a forward and a backward pass of the victim.

    Raises:
        ValueError: ``draws`` is not positive.
    """

    draws: int = 20

    def __post_init__(self) -> None:
        require(self, "draws", at_least=1)

    def __call__(self, victim: Defended) -> Classifier:
        purifier = victim.purifier
        if not isinstance(purifier, RandomPurifier):
            return victim

        def view(x: Images) -> Logits:
            logits = [victim.classifier(purifier(x.clone(), draw=k + 1)) for k in range(self.draws)]
            return torch.stack(logits).mean(0)

        return view

    def applies_to(self, purifier: nn.Module) -> bool:
        return isinstance(purifier, RandomPurifier)

    def __str__(self) -> str:
        return f"eot({self.draws})"


@dataclass(frozen=True)
class DetectorAware(View):
    """The victim with its detector, for attacks that also evade detection.

    Such an attack calls :meth:`~spearshield.method.Detects.detection_score` of the model. Other
    attacks through this view ignore the detector.
    """

    def __call__(self, victim: Defended) -> Classifier:
        return victim

    def applies_to(self, purifier: nn.Module) -> bool:
        return isinstance(purifier, Detects)


@dataclass(frozen=True)
class InRange(View):
    """The victim with its generator, for attacks that search the range of the generator.

    Such an attack calls :meth:`~spearshield.method.Generates.search` of the purifier.
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
    """Returns the second argument unchanged and passes the gradient to the first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, x_hat: Tensor) -> Tensor:  # noqa: ARG004
        return x_hat.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradient, None
