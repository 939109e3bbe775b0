"""A wrapper that adapts the input and output of any classifier to images and logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from spearshield.architecture import Architecture, Normalize
from spearshield.ranges import require
from spearshield.types import Images

Output = Literal["logits", "probabilities", "binary_logit", "binary_probability"]


class WrappedClassifier(nn.Module):
    """A classifier from images in [0, 1] to float32 logits, around any callable.

    The network gets a copy of the images, normalised and converted to the dtype and device of the
    weights. It may return a tensor; a tuple or list, from which the first tensor is taken; or a
    mapping, from which the entry ``logits`` is taken, or the only tensor.

    Args:
        module: The network. A callable that is not a module has no weights.
        mean, std: One number for each channel, on the [0, 1] pixel scale; ``None``: no
            normalisation.
        output: The kind of numbers that the network returns. Probabilities become
            log-probabilities, which are logits; the one logit or probability of a binary classifier
            becomes two logits.
        architecture: The architecture that builds the network again, if known.

    Raises:
        ValueError: Only one of ``mean`` and ``std`` is given, their lengths differ, ``std`` is not
            positive, or ``output`` is unknown. When called: the network returns no tensor or, as a
            binary classifier, not one number for each image.
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
        if (mean is None) != (std is None) or len(mean or ()) != len(std or ()):
            raise ValueError(f"mean and std need one number for each channel, got {mean} and {std}")
        if std is not None and min(std) <= 0:
            raise ValueError(f"std must be positive, got {std}")
        self.module = module if isinstance(module, nn.Module) else _Function(module)
        self.mean, self.std, self.output = mean, std, output
        require(self, "output", one_of=get_args(Output))
        self.architecture = architecture
        self.normalize = Normalize(mean, std) if mean and std else nn.Identity()

    def forward(self, x: Images) -> Tensor:
        weight = next((p for p in self.module.parameters() if p.is_floating_point()), None)
        images: Tensor = self.normalize(x.clone())  # the network may change its input in place
        if weight is not None:
            images = images.to(weight.device, weight.dtype)
        returned = _tensor(self.module(images))
        return _logits(returned, self.output).to(x.device, torch.float32)


class _Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def _tensor(returned: Any) -> Tensor:
    """The tensor in the return value of a network."""
    if isinstance(returned, Tensor):
        return returned
    if isinstance(returned, Mapping):
        found = returned.get("logits")
        parts = [v for v in returned.values() if isinstance(v, Tensor)]
        if isinstance(found, Tensor):
            return found
        if len(parts) == 1:
            return parts[0]
        raise ValueError(
            f"the classifier returns a mapping with {', '.join(map(str, returned)) or 'nothing'}; "
            "it needs an entry 'logits', or one tensor only"
        )
    if isinstance(returned, (tuple, list)):
        for part in returned:
            if isinstance(part, Tensor):
                return part
    raise ValueError(
        f"the classifier returns {type(returned).__name__}; it must return a tensor of logits, or "
        "a tuple, list or mapping that holds one"
    )


def _logits(returned: Tensor, output: Output) -> Tensor:
    if output in ("binary_logit", "binary_probability"):
        flat = returned.reshape(len(returned), -1)
        if flat.shape[1] != 1:
            raise ValueError(
                f"output={output!r} needs one number for each image, the classifier returns shape "
                f"{tuple(returned.shape)}"
            )
        if output == "binary_probability":
            return torch.cat([_log(1 - flat), _log(flat)], 1)
        return torch.cat([torch.zeros_like(flat), flat], 1)
    return _log(returned) if output == "probabilities" else returned


def _log(probability: Tensor) -> Tensor:
    return probability.clamp(min=torch.finfo(probability.dtype).tiny).log()
