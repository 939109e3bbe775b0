"""Penultimate features: what the last layer of a classifier receives."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from spearshield.types import Images, Logits

LAST_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""The kinds of layers of which the last one in a forward pass makes the logits."""


class Features(nn.Module):
    """A classifier that also returns its penultimate features.

    The features are the input of the last linear or convolutional layer that runs. The classifier
    is shared, not copied.

    Raises:
        ValueError: When called: the classifier runs no such layer on the images.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Images) -> tuple[Float[Tensor, "n d"], Logits]:
        """The features of shape (n, d), and the logits; both are differentiable."""
        seen: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG001
            if len(inputs[0]) == len(x):
                seen[:] = [inputs[0]]

        layers = [m for m in self.classifier.modules() if isinstance(m, LAST_LAYERS)]
        hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
        try:
            logits: Logits = self.classifier(x)
        finally:
            for hook in hooks:
                hook.remove()
        if not seen:
            raise ValueError(
                "the classifier has no penultimate features: no linear or convolutional layer ran"
            )
        return seen[0].flatten(1), logits
