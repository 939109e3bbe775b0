"""The budget and the model of an attack, checked and converted at one place.

Attacks may then assume a model that leaves its input alone and returns logits in the dtype of the
images. Images and labels: see :mod:`spearshield.pixels`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from spearshield.threat import ThreatModel
from spearshield.types import Classifier, Images, Labels


def check_budget(threat: ThreatModel, x: Images) -> None:
    """Raise if the budget is larger than the distance from the black to the white image.

    Raises:
        ValueError: Names the budget and that distance.
    """
    largest, shape = threat.diameter(x), tuple(x.shape[1:])
    if threat.eps > largest * (1 + 1e-6):
        raise ValueError(
            f"{threat} allows every image: two images of shape {shape} are at most {largest:g} "
            f"apart; budgets are on the [0, 1] pixel scale, as in {threat.norm}({threat.eps:g} / "
            "255)"
        )


@contextmanager
def guarded(
    model: Classifier, y: Labels | None = None, dtype: torch.dtype = torch.float32
) -> Iterator[Classifier]:
    """The model, as attacks and evaluations may call it inside the block.

    The model is given a copy of its input, so one that changes its input in place changes only the
    copy. A batch is filled up with copies of its last image to one of few sizes, because every
    new size costs memory that is not freed. Images are converted to the dtype of its weights, if
    these have a single one, and logits to ``dtype``; logits in a NumPy array become a tensor. A
    module is yielded itself, with hooks that the end of the block removes, so that attacks still
    find its parts and protocols.

    Args:
        y: Labels that the logits must have a column for.
        dtype: The dtype of the images.

    Raises:
        ValueError: When called: the model returns no logits of shape (n, k) for two or more
            classes, or a label has no logit.
    """
    guard = _Guard(model, torch.empty(0) if y is None else y, dtype)
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        yield lambda x: guard.logits(model(guard.images(x)))
        return
    hooks = (
        model.register_forward_pre_hook(lambda _, args: (guard.images(args[0]), *args[1:])),
        model.register_forward_hook(lambda _, args, output: guard.logits(output)),
    )
    try:
        yield model
    finally:
        for hook in hooks:
            hook.remove()


class _Guard:
    """The conversions before and after a forward pass."""

    def __init__(self, model: Classifier, y: Tensor, dtype: torch.dtype) -> None:
        self.highest, self.dtype = int(y.max()) if len(y) else 0, dtype
        self.whole, self.count, self.filled = len(y), 0, 0
        own = _dtypes(model)
        self.inner = own.pop() if len(own) == 1 else dtype

    def images(self, x: Images) -> Tensor:
        self.count, self.filled = len(x), rounded_size(len(x), self.whole)
        if self.filled > self.count:
            copies = x[-1:].expand(self.filled - self.count, *x.shape[1:])
            return torch.cat([x, copies]).to(self.inner)
        return x.to(self.inner, copy=True)

    def logits(self, returned: object) -> Tensor:
        logits = torch.as_tensor(returned) if isinstance(returned, np.ndarray) else returned
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != self.filled:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"the model must return logits of shape (n, k), for {self.filled} images it "
                f"returned {got}; as_classifier adapts models with other outputs"
            )
        classes = logits.shape[1]
        if classes < 2:
            raise ValueError(
                "the model returns one number for each image and needs one for each class; "
                "as_classifier(model, output='binary_logit') adapts a binary classifier"
            )
        if self.highest >= classes:
            raise ValueError(
                f"label {self.highest} is out of range: the model has {classes} classes, so labels "
                f"must be from 0 to {classes - 1}"
            )
        return logits[: self.count].to(self.dtype)


def rounded_size(count: int, whole: int) -> int:
    """The number of images of a part of a batch, rounded up to one of at most 64 sizes.

    Args:
        count: Number of images; more than the whole batch are not rounded.
        whole: Size of the whole batch, which is one of the sizes.
    """
    step = 1 << max(whole.bit_length() - 6, 0)
    return max(count, min(-(-count // step) * step, whole))


def _dtypes(model: Classifier) -> set[torch.dtype]:
    """The floating-point types of the weights and buffers; none for a function."""
    if not isinstance(model, nn.Module):
        return set()
    tensors = chain(model.parameters(), model.buffers())
    return {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
