"""A wrapper that adapts the input and output of any classifier to images and logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, get_args

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spearshield import foreign
from spearshield.architecture import Architecture, Normalize
from spearshield.inputs import Converts, check_model, placed
from spearshield.logits import Output, as_logits, check_kind
from spearshield.pixels import as_input
from spearshield.ranges import require
from spearshield.spelling import got

PerChannel: TypeAlias = "Sequence[float] | Sequence[int] | float | NDArray[Any] | Tensor"
"""A number for each channel, or one for all."""


def numbers(values: PerChannel | None) -> tuple[float, ...] | None:
    """The numbers of all channels.

    Raises:
        ValueError: They are not numbers, or there are none.
    """
    if values is None:
        return None
    try:
        found = torch.as_tensor(values, dtype=torch.float64).flatten().tolist()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"mean and std must be numbers, got {got(values)}") from error
    if not found:
        raise ValueError("mean and std need one number for each channel, got none")
    return tuple(found)


class WrappedClassifier(Converts):
    """A classifier from images in [0, 1] to float32 logits, around any callable.

    Images are floats in [0, 1], or 8-bit numbers, which are divided by 255.
    The network gets a copy of the images, normalised and converted to the dtype and device of the
    weights. It may return logits in any form that :func:`~spearshield.logits.as_logits` takes.

    Args:
        module: The network. A callable that is not a module has no weights.
        mean, std: One number for each channel, on the [0, 1] pixel scale; ``None``: no
            normalisation.
        output: The kind of numbers that the network returns. Probabilities become
            log-probabilities, which are logits; the one logit or probability of a binary classifier
            becomes two logits.
        architecture: The architecture that builds the network again, if known.

    Raises:
        ValueError: The network cannot be called or has no weights yet, only one of ``mean`` and
            ``std`` is given, their lengths differ, a number is out of range, or ``output`` is
            unknown. When called: the network returns no such logits or, at the first call, numbers
            of another kind than ``output``; or the images are neither floats nor uint8 of shape
            (n, c, h, w), or have another number of channels.
        ForeignError: When called: the network raises an error.
    """

    def __init__(
        self,
        module: nn.Module | Callable[..., Any],
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        output: Output = "logits",
        architecture: Architecture | None = None,
    ) -> None:
        super().__init__()
        check_model(module)
        if (mean is None) != (std is None) or len(mean or ()) != len(std or ()):
            raise ValueError(
                f"mean and std need one number for each channel, got {got(mean)} and {got(std)}"
            )
        if not all(0 <= value <= 1 for value in mean or ()):
            raise ValueError(
                f"mean must be in [0, 1], got {got(mean)}; divide 8-bit numbers by 255"
            )
        if not all(0 < value <= 1 for value in std or ()):
            raise ValueError(f"std must be positive and at most 1, got {got(std)}; divide by 255")
        self.module = module if isinstance(module, nn.Module) else _Function(module)
        self.mean, self.std, self.output = mean, std, output
        require(self, "output", one_of=get_args(Output))
        self.architecture = architecture
        self.normalize = Normalize(mean, std) if mean and std else nn.Identity()
        self._called = False

    def forward(self, x: Tensor | NDArray[Any]) -> Tensor:
        x = as_input(x)
        if self.mean and len(self.mean) not in (1, x.shape[1]):
            raise ValueError(
                f"mean and std are for {len(self.mean)} channels, images have {x.shape[1]}; give "
                "one number for each channel of the images"
            )
        images: Tensor = self.normalize(x.clone())  # the network may change its input in place
        returned = foreign.call(self.module, placed(images, self.module))
        logits = as_logits(returned, x, self.output)
        computed = type(logits) is Tensor and not torch.compiler.is_compiling()  # not traced
        if computed and not self._called:
            check_kind(returned, x, self.output)
            self._called = True
        return logits.to(x.device, torch.float32)


class _Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return foreign.call(self.function, x)
