"""Penultimate features: the input of the last layer of a classifier."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spearshield.method import frozen
from spearshield.types import Classifier, Images, Logits

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
    return _recorded(classifier, frozen(classifier), x)


@torch.no_grad()
def features_seen(classifier: nn.Module, x: Images) -> Float[Tensor, "n d"]:
    """The same features, without gradients, of a classifier of any kind in its present mode."""
    return _recorded(classifier, classifier, x)[0]


def _recorded(classifier: nn.Module, call: Classifier, x: Images) -> tuple[Tensor, Logits]:
    """The features and the logits of one forward pass."""
    seen: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG001
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].shape[:1] == x.shape[:1]:
            seen[:] = [inputs[0]]

    layers = [layer for layer in classifier.modules() if isinstance(layer, LAST_LAYERS)]
    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        logits: Logits = call(x)
    finally:
        for hook in hooks:
            hook.remove()
    return (seen[0] if seen else logits).flatten(1), logits
