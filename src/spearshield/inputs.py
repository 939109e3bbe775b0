"""The budget and the model of an attack, checked and converted at one place.

Attacks may then assume a model that leaves its input alone and returns logits in the dtype of the
images. Images and labels: see :mod:`spearshield.pixels`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import UninitializedParameter

from spearshield import foreign
from spearshield.logits import as_logits, check_kind
from spearshield.threat import ThreatModel
from spearshield.types import Classifier, Images, Labels


def check_budget(threat: ThreatModel, x: Images) -> None:
    """Raise if the budget is larger than the distance from the black to the white image.

    Raises:
        ValueError: Names the budget and that distance; or it is no threat model.
    """
    ThreatModel.check(threat)
    largest, shape = threat.diameter(x), tuple(x.shape[1:])
    if threat.eps > largest * (1 + 1e-6):
        raise ValueError(
            f"{threat} allows every image: two images of shape {shape} are at most {largest:g} "
            f"apart; budgets are on the [0, 1] pixel scale, as in {threat.norm}({threat.eps:g} / "
            "255)"
        )


def check_model(model: object) -> None:
    """Raise if a model cannot be called, or has no weights yet.

    Raises:
        ValueError: It is a class, not callable, on the device ``meta``, or has a lazy layer without
            values.
    """
    if isinstance(model, type):
        raise ValueError(f"{model.__name__} is a class; give an instance, as {model.__name__}()")
    if not callable(model):
        raise ValueError(
            f"a classifier must be an nn.Module or a function from images to logits, got "
            f"{type(model).__name__}; wrap its prediction, as "
            "as_classifier(lambda x: ..., output='probabilities')"
        )
    for name, value in model.named_parameters() if isinstance(model, nn.Module) else ():
        if isinstance(value, UninitializedParameter):
            raise ValueError(
                f"{name} is lazy and has no values yet; call the network on images once, and load "
                "its weights"
            )
        if value.is_meta:
            raise ValueError(f"{name} is on the device meta and has no values; load its weights")


@contextmanager
def guarded(
    model: Classifier, y: Labels | None = None, dtype: torch.dtype = torch.float32
) -> Iterator[Classifier]:
    """The model, as attacks and evaluations may call it inside the block.

    The model is given a copy of its input, so one that changes its input in place changes only the
    copy. A batch is filled up with copies of its last image to one of few sizes, because every
    new size costs memory that is not freed. Images are converted to the dtype of its weights, if
    these have a single one. Its output may have any form that :func:`~spearshield.logits.as_logits`
    takes, and becomes logits of type ``dtype``. A module is yielded itself, with hooks that the end
    of the block removes, so that attacks still find its parts and protocols.

    Args:
        y: Labels that the logits must have a column for.
        dtype: The dtype of the images.

    Warns:
        UserWarning: A dropout or batch normalisation layer is in training mode.

    Raises:
        ValueError: The model cannot be called, or has no weights yet. When called: it returns no
            logits of shape (n, k) for two or more classes, or at the first call probabilities; or a
            label has no logit.
    """
    check_model(model)
    _warn_of_training(model)
    guard = _Guard(model, torch.empty(0) if y is None else y, dtype)
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        yield guard
        return
    hooks = (
        model.register_forward_pre_hook(lambda _, args: (guard.images(args[0]), *args[1:])),
        # In front of the hooks of an outer block, which filled up its batch first.
        model.register_forward_hook(lambda _, args, output: guard.logits(output), prepend=True),
    )
    try:
        yield model
    finally:
        for hook in hooks:
            hook.remove()


def _warn_of_training(model: object) -> None:
    layers = model.named_modules() if isinstance(model, nn.Module) else ()
    for name, layer in layers:
        if layer.training and isinstance(layer, (_BatchNorm, _DropoutNd)):
            warnings.warn(
                f"{name or 'the model'} ({type(layer).__name__}) is in training mode, so logits "
                "change from call to call or with the batch; call .eval() on the model",
                stacklevel=5,
            )
            return


class _Guard:
    """The conversions before and after a forward pass; a classifier itself."""

    def __init__(self, model: Classifier, y: Tensor, dtype: torch.dtype) -> None:
        self.model, self.y, self.dtype = model, y, dtype
        self.called, self.count, self.seen = False, 0, torch.empty(0)
        own = _dtypes(model)
        self.inner = own.pop() if len(own) == 1 else dtype

    def __call__(self, x: Images) -> Tensor:
        return self.logits(foreign.call(self.model, self.images(x)))

    def images(self, x: Images) -> Tensor:
        self.count = len(x)
        missing = rounded_size(self.count, len(self.y)) - self.count
        filled = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x
        self.seen = filled.to(self.inner, copy=not missing)
        return self.seen

    def logits(self, returned: object) -> Tensor:
        logits = as_logits(returned, self.seen)
        if not self.called:
            check_kind(returned, self.seen, "logits")
            check_classes(self.y, logits.shape[1])
            self.called = True
        self.seen = torch.empty(0)  # the graph, if there is one, need not outlive the call
        return logits[: self.count].to(self.dtype)


class Converts(nn.Module):
    """A module that converts images for its parts itself; :func:`placed` leaves them to it."""


def placed(x: Tensor, network: nn.Module) -> Tensor:
    """Images or maps on the device and in the dtype of a network's weights, or else of its buffers.

    Differentiable in ``x``; integers are returned as they are.
    """
    if isinstance(network, Converts) or not x.is_floating_point():
        return x
    held = chain(network.parameters(), network.buffers())
    weight = next((tensor for tensor in held if tensor.is_floating_point()), None)
    return x if weight is None else x.to(weight.device, weight.dtype)


def rounded_size(count: int, whole: int) -> int:
    """The number of images of a part of a batch, rounded up to one of at most 64 sizes.

    Args:
        count: Number of images; more than the whole batch are not rounded.
        whole: Size of the whole batch, which is one of the sizes.
    """
    step = 1 << max(whole.bit_length() - 6, 0)
    return max(count, min(-(-count // step) * step, whole))


def check_classes(y: Tensor, classes: int) -> None:
    """Raise if a label has no logit.

    Args:
        y: Labels; none if they are not known.
        classes: The number of logits.

    Raises:
        ValueError: Names the highest label and the number of classes.
    """
    if len(y) and int(y.max()) >= classes:
        shift = "; if they are numbered from 1, give labels - 1" if y.min() > 0 else ""
        raise ValueError(
            f"label {int(y.max())} is out of range: the model has {classes} classes, so labels "
            f"must be from 0 to {classes - 1}{shift}"
        )


def _dtypes(model: Classifier) -> set[torch.dtype]:
    """The floating-point types of the weights and buffers; none for a function."""
    if not isinstance(model, nn.Module):
        return set()
    tensors = chain(model.parameters(), model.buffers())
    return {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
