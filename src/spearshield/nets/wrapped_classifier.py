"""A classifier from elsewhere, with its habits: normalisation, outputs, precision, device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spearshield.architecture import Architecture, Normalize
from spearshield.types import Images

Output = Literal["logits", "probabilities", "binary_logit", "binary_probability"]


class WrappedClassifier(nn.Module):
    """A classifier from images in [0, 1] to float32 logits, around any callable.

    Images are normalised, and converted to the dtype and device of the weights. The answer may be
    a tensor; a tuple or list, of which the first tensor counts; or a mapping, of which the entry
    ``logits`` counts, or the only tensor.

    Args:
        module: The network. A callable that is not a module has no weights.
        mean, std: One number for each channel, on the [0, 1] scale; ``None``: no normalisation.
        output: What the network returns. Probabilities become log-probabilities, which are logits;
            one logit, or one probability, of a binary classifier becomes two logits.
        architecture: How the network can be built again, where that is known.

    Raises:
        ValueError: Only one of ``mean`` and ``std`` is given, their lengths differ, or ``std`` is
            not positive; when called, the answer holds no tensor, or not one output for each class.
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
        self.architecture = architecture
        self.normalize = Normalize(mean, std) if mean and std else nn.Identity()

    def forward(self, x: Images) -> Tensor:
        weight = next((p for p in self.module.parameters() if p.is_floating_point()), None)
        images: Tensor = self.normalize(x)
        if weight is not None:
            images = images.to(weight.device, weight.dtype)
        answer = _tensor(self.module(images))
        return _logits(answer, self.output).to(x.device, torch.float32)


class _Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def _tensor(answer: Any) -> Tensor:
    """The logits in what a network returns."""
    if isinstance(answer, Tensor):
        return answer
    if isinstance(answer, Mapping):
        found = answer.get("logits")
        parts = [v for v in answer.values() if isinstance(v, Tensor)]
        if isinstance(found, Tensor):
            return found
        if len(parts) == 1:
            return parts[0]
        raise ValueError(
            f"the classifier returns a mapping with {', '.join(map(str, answer)) or 'nothing'}; "
            "it needs an entry 'logits', or one tensor only"
        )
    if isinstance(answer, (tuple, list)):
        for part in answer:
            if isinstance(part, Tensor):
                return part
    raise ValueError(
        f"the classifier returns {type(answer).__name__}; it must return a tensor of logits, or a "
        "tuple, list or mapping that holds one"
    )


def _logits(answer: Tensor, output: Output) -> Tensor:
    if output in ("binary_logit", "binary_probability"):
        flat = answer.reshape(len(answer), -1)
        if flat.shape[1] != 1:
            raise ValueError(
                f"output={output!r} needs one number for each image, the classifier returns shape "
                f"{tuple(answer.shape)}"
            )
        if output == "binary_probability":
            return torch.cat([_log(1 - flat), _log(flat)], 1)
        return torch.cat([torch.zeros_like(flat), flat], 1)
    return _log(answer) if output == "probabilities" else answer


def _log(probability: Tensor) -> Tensor:
    return probability.clamp(min=torch.finfo(probability.dtype).tiny).log()
