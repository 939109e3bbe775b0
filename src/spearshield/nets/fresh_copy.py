"""A network of the same architecture with freshly drawn weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NoReturn

from torch import nn

from spearshield.types import Images, Logits


def fresh_copy(network: nn.Module) -> nn.Module:
    """The same network with freshly drawn weights, for methods that train one from the start.

    If it has no weights, or a layer with weights has no ``reset_parameters`` (as in TorchScript),
    the copy raises when it is used.
    """
    copied = copy.deepcopy(network)
    for name, layer in copied.named_modules():
        reset: Callable[[], None] | None = getattr(layer, "reset_parameters", None)
        if reset is not None:
            reset()
        elif [*layer.parameters(recurse=False)]:
            return NoFreshCopy(
                f"{name or type(layer).__name__} has weights and no reset_parameters, so this "
                "method cannot train a fresh copy of the network; give the layer that function"
            )
    if not [*copied.parameters()]:
        return NoFreshCopy("the classifier has no weights that this method could train")
    return copied


class NoFreshCopy(nn.Module):
    """Replaces a freshly drawn network that cannot be drawn; raises when it is trained or called.

    Args:
        why: The message of the error.
    """

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why

    def forward(self, x: Images) -> Logits:  # noqa: ARG002
        self.refuse()

    def parameters(self, recurse: bool = True) -> NoReturn:  # noqa: ARG002
        self.refuse()

    def refuse(self) -> NoReturn:
        """Raise.

        Raises:
            ValueError: Explains why there is no fresh copy.
        """
        raise ValueError(self.why)
