"""Numbers in any container, as a dense tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_tensor(values: Any, noun: str) -> Tensor:
    """A dense tensor of the numbers, without gradient, on their device.

    Args:
        values: A tensor of any layout, an array, a series, nested lists, or a list of tensors.
        noun: What they are, for messages.

    Raises:
        ValueError: They are not numbers, some are missing, or parts of a list differ in shape.
    """
    if isinstance(values, Tensor):
        return _dense(values, noun)
    if isinstance(values, (list, tuple)) and any(isinstance(one, Tensor) for one in values):
        return torch.stack(_of_one_shape([as_tensor(one, noun) for one in values], noun))
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{noun} are a masked array in which numbers are missing; fill them")
    if isinstance(values, (list, tuple)) and any(isinstance(one, np.ndarray) for one in values):
        _of_one_shape(values, noun)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{noun} are {type(values).__name__}; they must be numbers in an array of one shape "
            f"({error})"
        ) from error
    if array.dtype.kind not in "biufc":
        raise ValueError(f"{noun} are {_described(array)}{_number_remedy(array, noun)}")
    if not array.dtype.isnative or not array.flags.writeable or min(array.strides, default=0) < 0:
        array = np.array(array, dtype=array.dtype.newbyteorder("="))
    try:
        return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{noun} are {array.dtype}, a type that PyTorch does not have; convert them"
        ) from error


def _dense(values: Tensor, noun: str) -> Tensor:
    if values.is_meta:
        raise ValueError(f"{noun} are on the device 'meta', which stores no numbers")
    if values.is_nested:
        raise ValueError(f"{noun} are a nested tensor; they must have one shape")
    if values.is_quantized:
        values = values.dequantize()
    values = values if values.layout == torch.strided else values.to_dense()
    return values.detach() if values.requires_grad else values


def _of_one_shape(parts: Any, noun: str) -> list[Tensor]:
    """The parts of a list, after a check that their shapes are equal."""
    shapes = [tuple(getattr(part, "shape", ())) for part in parts]
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"{noun} differ in shape: number {i} has {shape}, number 0 has {shapes[0]}"
            )
    return list(parts)


def _described(array: Any) -> str:
    """The type of an array that holds no numbers, in words."""
    words = {"U": "strings", "S": "byte strings", "O": "Python objects", "V": "records"}
    kind = words.get(array.dtype.kind, str(array.dtype))
    first = array.flat[0] if array.size else None
    if isinstance(first, str):
        return f"{kind} such as {first[:40]!r}"
    return f"{kind} of type {type(first).__name__}" if array.dtype.kind == "O" else kind


def _number_remedy(array: Any, noun: str) -> str:
    if noun == "labels":
        return "; they must be class numbers from 0, as np.unique(labels, return_inverse=True)[1]"
    if array.dtype.kind == "O":
        return "; np.stack(images) makes one array of images that have one shape"
    return "; they must be a tensor or array of numbers"
