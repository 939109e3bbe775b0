"""A guard against logits and gradients that are not finite, so that attacks run on any victim."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spearshield.foreign import ForeignError
from spearshield.types import Classifier, Images, Logits


@dataclass
class NonFiniteCounts:
    """Numbers of images with logits or gradients that were not finite."""

    logits: int = 0
    gradients: int = 0


@dataclass(frozen=True)
class FiniteGuard:
    """A classifier that replaces logits and gradients of the model by zero if they are not finite.

    Args:
        counts: Counts the replaced logits and gradients.
        detached: True if the model passes no gradient; the gradient is then zero as well.
    """

    model: Classifier
    counts: NonFiniteCounts
    detached: bool = False

    def __call__(self, x: Images) -> Logits:
        if self.detached:
            logits = self.model(x.detach().clone()) + 0 * x.flatten(1).sum(1, keepdim=True)
        elif x.requires_grad:
            hooked = x.clone()
            hooked.register_hook(self._finite_gradient)  # type: ignore[no-untyped-call]
            logits = self.model(hooked)
        else:
            logits = self.model(x.clone())  # some models change their input
        finite = logits.isfinite().all(1)
        self.counts.logits += int((~finite).sum())
        return torch.where(finite[:, None], logits, 0.0)

    def _finite_gradient(self, gradient: Tensor) -> Tensor:
        finite = gradient.isfinite().flatten(1).all(1)
        self.counts.gradients += int((~finite).sum())
        return torch.where(finite[:, None, None, None], gradient, 0.0)


def differentiable(model: Classifier, x: Images) -> bool:
    """True if a gradient of the logits reaches the images."""
    x = x[:2].detach().requires_grad_()
    with torch.enable_grad():
        try:
            (gradient,) = torch.autograd.grad(model(x.clone()).sum(), x, allow_unused=True)
        except (RuntimeError, ForeignError):
            return False
    return gradient is not None
