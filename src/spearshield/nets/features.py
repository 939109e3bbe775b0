"""Penultimate features: the input of the last layer of a classifier."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from spearshield.method import frozen
from spearshield.types import Images, Logits

LAST_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Kinds of layers; the last one that runs in a forward pass makes the logits."""


def features_of(
    classifier: nn.Module, x: Images
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n k"]]:
    """Penultimate features and logits of images, differentiable in the images alone.

    The features are the flattened input of the last linear or convolutional layer that runs, or the
    logits, if there is no such layer. The classifier runs in evaluation mode; its mode does not
    change.
    """
    seen: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG001
        if len(inputs[0]) == len(x):
            seen[:] = [inputs[0]]

    layers = [layer for layer in classifier.modules() if isinstance(layer, LAST_LAYERS)]
    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        logits: Logits = frozen(classifier)(x)
    finally:
        for hook in hooks:
            hook.remove()
    return (seen[0] if seen else logits).flatten(1), logits
