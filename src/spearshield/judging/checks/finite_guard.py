"""A victim that attacks can work on, whatever it answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spearshield.types import Classifier, Images, Logits


@dataclass
class NonFiniteCounts:
    """Answers and gradients asked for so far that were not finite."""

    answers: int = 0
    gradients: int = 0


@dataclass(frozen=True)
class FiniteGuard:
    """A classifier that attacks can work on whatever it does; bad answers are counted.

    Logits and gradients that are not finite become zero.

    Args:
        cut: Whether the model hands on no gradient; then it is zero as well.
    """

    model: Classifier
    tally: NonFiniteCounts
    cut: bool = False

    def __call__(self, x: Images) -> Logits:
        if self.cut:
            logits = self.model(x.detach()) + 0 * x.flatten(1).sum(1, keepdim=True)
        elif x.requires_grad:
            seen = x.view_as(x)
            seen.register_hook(self._finite_gradient)  # type: ignore[no-untyped-call]
            logits = self.model(seen)
        else:
            logits = self.model(x)
        finite = logits.isfinite().all(1)
        self.tally.answers += int((~finite).sum())
        return torch.where(finite[:, None], logits, 0.0)

    def _finite_gradient(self, gradient: Tensor) -> Tensor:
        finite = gradient.isfinite().flatten(1).all(1)
        self.tally.gradients += int((~finite).sum())
        return torch.where(finite[:, None, None, None], gradient, 0.0)


def differentiable(model: Classifier, x: Images) -> bool:
    """Whether a gradient of the answers arrives at the images."""
    x = x[:2].detach().requires_grad_()
    with torch.enable_grad():
        try:
            (gradient,) = torch.autograd.grad(model(x).sum(), x, allow_unused=True)
        except RuntimeError:
            return False
    return gradient is not None
