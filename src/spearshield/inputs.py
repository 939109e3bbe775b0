"""The arguments of an attack, checked and converted at one place: images, labels and the model.

Attacks may then assume images in float32 or float64, labels in int64, and a model that leaves its
input alone and returns logits in the dtype of the images.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import UninitializedParameter

from spearshield import foreign
from spearshield.logits import as_logits, check_kind
from spearshield.threat import ThreatModel
from spearshield.types import Classifier, Images, Labels


def as_images(x: Tensor | NDArray[Any]) -> Images:
    """Images as a tensor of float32 or float64.

    Arrays become tensors, 8-bit numbers are divided by 255, and float16 and bfloat16 become
    float32, which is exact.

    Raises:
        ValueError: They are not of shape (n, c, h, w), or neither floats nor 8-bit numbers.
    """
    images = _as_tensor(x, "images")
    if images.dtype == torch.uint8:
        images = images.float() / 255
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; they must be floats in "
            "[0, 1], or uint8, of shape (n, c, h, w)"
        )
    return images if images.dtype in (torch.float32, torch.float64) else images.float()


def as_labels(y: Tensor | NDArray[Any]) -> Labels:
    """Labels as a tensor of int64; every type of integer is converted.

    Raises:
        ValueError: They are not integers of shape (n,), or one is negative.
    """
    labels = _as_tensor(y, "labels")
    fractional = labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
    if labels.ndim != 1 or fractional:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; they must be class numbers "
            "from 0: integers of shape (n,) (convert floats with .long(), and one-hot rows with "
            ".argmax(1))"
        )
    labels = labels.long()
    if len(labels) and labels.min() < 0:
        raise ValueError(f"label {int(labels.min())} is negative; classes are numbered from 0")
    return labels


def check_images(x: Images) -> None:
    """Raise if a pixel is not finite or not in [0, 1].

    Raises:
        ValueError: Names the first such image, and its lowest and highest pixel.
    """
    inside = ((x >= 0) & (x <= 1)).flatten(1).all(1)
    if not inside.all():
        worst = int((~inside).nonzero()[0])
        low, high = float(x[worst].min()), float(x[worst].max())
        raise ValueError(
            f"image {worst} has pixels from {low:g} to {high:g}; images must be finite and in "
            "[0, 1] (divide 8-bit images by 255, and normalise inside the classifier)"
        )


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
    copy. Images are converted to the dtype of its weights, if these have a single one. Its output
    may have any form that :func:`~spearshield.logits.as_logits` takes, and becomes logits of type
    ``dtype``. A module is yielded itself, with hooks that the end of the block removes, so that
    attacks still find its parts and protocols.

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
    guard = _Guard(model, int(y.max()) if y is not None and len(y) else 0, dtype)
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        yield lambda x: guard.logits(foreign.call(model, guard.images(x)), x)
        return
    hooks = (
        model.register_forward_pre_hook(lambda _, args: (guard.images(args[0]), *args[1:])),
        model.register_forward_hook(lambda _, args, output: guard.logits(output, args[0])),
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
    """The conversions before and after a forward pass."""

    def __init__(self, model: Classifier, highest: int, dtype: torch.dtype) -> None:
        self.highest, self.dtype, self.called = highest, dtype, False
        own = _dtypes(model)
        self.inner = own.pop() if len(own) == 1 else dtype

    def images(self, x: Images) -> Images:
        return x.to(self.inner, copy=True)

    def logits(self, returned: object, x: Images) -> Tensor:
        logits = as_logits(returned, x)
        if not self.called:
            check_kind(returned, x, "logits")
            check_classes(self.highest, logits.shape[1])
            self.called = True
        return logits.to(self.dtype)


def check_classes(highest: int, classes: int) -> None:
    """Raise if a label has no logit.

    Args:
        highest: The highest label.
        classes: The number of logits.

    Raises:
        ValueError: Names both.
    """
    if highest >= classes:
        raise ValueError(
            f"label {highest} is out of range: the model has {classes} classes, so labels must be "
            f"from 0 to {classes - 1}"
        )


def _dtypes(model: Classifier) -> set[torch.dtype]:
    """The floating-point types of the weights and buffers; none for a function."""
    if not isinstance(model, nn.Module):
        return set()
    tensors = chain(model.parameters(), model.buffers())
    return {tensor.dtype for tensor in tensors if tensor.is_floating_point()}


def _as_tensor(values: Tensor | NDArray[Any], noun: str) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = getattr(values, "dtype", type(values).__name__)
        raise ValueError(f"{noun} are {kind}; they must be a tensor or array of numbers") from error
