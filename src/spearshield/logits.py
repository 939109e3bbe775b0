"""The outputs of classifiers, in the forms in which users have them, as logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from spearshield.types import Images, Logits

Output = Literal["logits", "probabilities", "binary_logit", "binary_probability"]
"""The kind of numbers that a classifier returns."""


def as_logits(returned: object, x: Images, output: Output = "logits") -> Logits:
    """The logits that a classifier returned for images, of shape (n, k) for k of at least 2.

    A tensor is taken as it is; of an object with the attribute or entry ``logits``, that one; of a
    mapping, the only tensor; of a tuple or list, the first tensor with numbers for each image. An
    array becomes a tensor, integers become floats, shape (n, k, 1, 1) becomes (n, k), and so does
    (k,) for one image.

    Raises:
        ValueError: There is no such tensor, or no logits of this shape.
    """
    values, images = _floats(_tensor(returned, x.shape[0])), x.shape[0]
    if output in ("binary_logit", "binary_probability"):
        return _two_columns(values, images, output)
    shape = tuple(values.shape)
    if values.ndim == 1 and images == 1:
        values = values[None]
    if values.ndim > 2 and values.shape[2:].numel() == 1:
        values = values.flatten(1)
    if values.ndim != 2 or values.shape[0] != images or values.shape[1] < 2:
        raise ValueError(
            f"the classifier must return logits of shape (n, k), for {images} images it returned "
            f"shape {shape}{_remedy(values, images)}"
        )
    return _log(values) if output == "probabilities" else values


def check_kind(returned: object, x: Images, output: Output) -> None:
    """Raise if the numbers that a classifier returned for some images are of another kind.

    Raises:
        ValueError: They are probabilities and ``output`` says logits, or the reverse.
    """
    values = _floats(_tensor(returned, len(x))).detach()
    if output == "binary_logit" or not values.isfinite().all():
        return
    rounding = 4 * torch.finfo(values.dtype).eps
    low, high = float(values.min()), float(values.max())
    if output == "binary_probability":
        if low < -rounding or high > 1 + rounding:
            raise ValueError(
                f"the classifier returns numbers from {low:g} to {high:g}, not probabilities; use "
                "output='binary_logit' (--output binary_logit)"
            )
        return
    rows = values.double().reshape(len(x), -1)
    off = (rows.sum(1) - 1).abs().max()
    # Equal rows may be any constant, and rows of 0 and 1 are the votes of a black box.
    telling = bool((rows != rows[0]).any()) and not bool(((rows == 0) | (rows == 1)).all())
    if output == "logits" and telling and low >= 0 and off < max(1e-4, rounding):
        raise ValueError(
            "the classifier returns probabilities (rows sum to one), which hide the gradient; "
            "return logits, or wrap it: as_classifier(..., output='probabilities') or "
            "--output probabilities"
        )
    if output == "probabilities" and (low < -rounding or off > max(1e-2, rounding)):
        raise ValueError(
            f"the classifier returns numbers from {low:g} to {high:g} whose rows do not sum to "
            "one, not probabilities; use output='logits' (--output logits)"
        )


def _tensor(returned: Any, images: Any) -> Tensor:
    """The tensor in the return value of a classifier."""
    if isinstance(returned, Tensor):
        return returned
    named = returned.get("logits") if isinstance(returned, Mapping) else None
    named = getattr(returned, "logits", None) if named is None else named
    if isinstance(named, Tensor):
        return named
    if isinstance(returned, Mapping):
        parts = [value for value in returned.values() if isinstance(value, Tensor)]
        if len(parts) == 1:
            return parts[0]
        raise ValueError(
            f"the classifier returns a mapping with {', '.join(map(str, returned)) or 'nothing'}; "
            "it needs an entry 'logits', or one tensor only"
        )
    if isinstance(returned, (tuple, list)):
        tensors = [part for part in returned if isinstance(part, Tensor)]
        fitting = [part for part in tensors if part.ndim and part.shape[0] == images]
        if tensors:
            return (fitting or tensors)[0]
    elif hasattr(returned, "__array__") and np.asarray(returned).dtype.kind in "biufc":
        return torch.as_tensor(np.asarray(returned))
    raise ValueError(
        f"the classifier returns {type(returned).__name__}; it must return a tensor of logits, or "
        "a tuple, list, mapping or object with logits"
    )


def _floats(values: Tensor) -> Tensor:
    """The numbers as floats in a dense tensor.

    Raises:
        ValueError: They are complex, or the tensor has no values.
    """
    if type(values) is Tensor and values.is_meta:
        raise ValueError("the classifier returns a tensor on the device meta, which has no values")
    if values.is_complex():
        raise ValueError(f"the classifier returns {values.dtype}; logits must be real numbers")
    values = values.dequantize() if values.is_quantized else values
    values = values if values.layout == torch.strided else values.to_dense()
    return values if values.is_floating_point() else values.float()


def _two_columns(values: Tensor, images: Any, output: Output) -> Logits:
    """The logits of both classes, from the one number of a binary classifier."""
    if values.numel() != images:
        raise ValueError(
            f"output={output!r} needs one number for each image, for {images} images the "
            f"classifier returns shape {tuple(values.shape)}"
        )
    column = values.reshape(images, 1)
    if output == "binary_probability":
        return torch.cat([_log(1 - column), _log(column)], 1)
    return torch.cat([torch.zeros_like(column), column], 1)


def _remedy(values: Tensor, images: Any) -> str:
    """What to do about an output that is not of shape (n, k)."""
    if values.numel() == images:
        return (
            "; for a binary classifier with one number for each image use "
            "as_classifier(..., output='binary_logit'), or --output binary_logit; for one that "
            "returns classes, return the logits before the argmax"
        )
    return "; return one number for each class of each image"


def _log(probability: Tensor) -> Tensor:
    return probability.clamp(min=torch.finfo(probability.dtype).tiny).log()
