"""Interval arithmetic for training: the bounds of a network's values, with their gradients.

A network is called with a :class:`Bounded` in place of images. Every operation of PyTorch that it
performs then computes its values and their bounds over a box of images, in float32 and
differentiable in the weights.

The bounds of the judge, :mod:`spearshield.judging.bounds`, take most of the same operations, but
are in float64, widened by rounding errors and without gradient in the weights, as they record the
network below autograd. These bounds ignore rounding errors. They train a network and prove nothing.

Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust
Models", 2018, https://arxiv.org/abs/1810.12715, section 3.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils._pytree import tree_leaves, tree_map

from spearshield.foreign import ForeignError
from spearshield.rng import ambient
from spearshield.types import Images, Labels, Logits, Shape

Values: TypeAlias = Float[Tensor, "n ..."]


class Bounded(Tensor):
    """The values of an operation for a batch of images, and their bounds over a box around each.

    The training-time behaviour of a layer follows from the values, and their bounds share it: batch
    normalisation takes its statistics from the values, and dropout leaves out the same places.

    Args:
        value: The values.
        lower, upper: Their bounds, of the same shape.
        product: The argument, the weight and the bias of the linear layer that computed it, if any.
    """

    value: Values
    lower: Values
    upper: Values
    product: tuple[Bounded, Tensor, Tensor | None] | None

    @staticmethod
    def __new__(
        cls,
        value: Values,
        lower: Values,
        upper: Values,
        product: tuple[Bounded, Tensor, Tensor | None] | None = None,
    ) -> Bounded:
        bounded = Tensor._make_wrapper_subclass(
            cls, value.shape, strides=value.stride(), dtype=value.dtype, device=value.device
        )
        bounded.value, bounded.lower, bounded.upper = value, lower, upper
        bounded.product = product
        return bounded

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.__name__
        if name == "__get__":
            name = func.__self__.__name__
        if name in FACTS:
            return func(*tree_map(_value, args), **tree_map(_value, kwargs))
        rule = RULES.get(name.removesuffix("_") if not name.startswith("__") else name)
        if rule is None:
            raise Unbounded(f"there are no bounds of {name}")
        return rule(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise Unbounded(f"there are no bounds of {func}")

    @property
    def centre(self) -> Values:
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Values:
        return (self.upper - self.lower) / 2


class Unbounded(ValueError):  # noqa: N818
    """The network performs an operation that has no bounds here; the message names it."""


def box(x: Images, eps: float) -> tuple[Images, Images]:
    """The ends of the box of images of which no pixel differs from ``x`` by more than ``eps``."""
    return (x - eps).clamp(min=0), (x + eps).clamp(max=1)


def bounded_logits(network: nn.Module, x: Images, low: Images, high: Images) -> Bounded:
    """The logits of a network for images, and their bounds over the boxes from ``low`` to ``high``.

    Args:
        network: Maps images to logits of shape (n, k).
        x: Images of shape (n, c, h, w). Statistics of a batch, in training mode, are theirs.
        low, high: The ends of a box around each image, of the same shape.

    Raises:
        Unbounded: The network performs an operation without bounds.
    """
    logits = network(Bounded(x.clone(), low.clone(), high.clone()))
    if not isinstance(logits, Bounded) or logits.dim() != 2:
        raise Unbounded("the logits do not depend on the images by operations with bounds")
    return logits


def worst_case(logits: Bounded, y: Labels) -> Logits:
    """For each class the largest difference of its logit from the logit of ``y``, over the box.

    For the class ``y`` it is zero. A linear layer at the end is merged with the difference, which
    is tighter than the difference of the bounds of two logits.
    """
    if logits.product is None:
        largest = logits.upper - logits.lower.gather(1, y[:, None])
        return largest.scatter(1, y[:, None], 0.0)
    x, weight, bias = logits.product
    difference = weight - weight[y][:, None]
    largest = torch.einsum("nkd,nd->nk", difference, x.centre)
    largest = largest + torch.einsum("nkd,nd->nk", difference.abs(), x.radius)
    return largest if bias is None else largest + bias - bias[y][:, None]


def check_boundable(network: nn.Module, shape: Shape) -> None:
    """Raise unless all operations of a network have bounds, in training mode.

    Raises:
        ValueError: Names the layer and the operation.
    """
    network = copy.deepcopy(network).train()
    entered: list[str] = []

    def leave(*_: Any) -> None:
        entered.pop()

    for name, layer in network.named_modules():
        place = f"{name or 'the network'} ({type(layer).__name__})"
        layer.register_forward_pre_hook(lambda *_, place=place: entered.append(place))
        layer.register_forward_hook(leave)
    weight = next(network.parameters(), None)
    x = torch.zeros(2, *shape, device=None if weight is None else weight.device)
    try:
        with torch.no_grad(), ambient(0):
            bounded_logits(network, x, x, x + 1)
    except (Unbounded, ForeignError, RuntimeError, TypeError) as error:
        place = entered[-1] if entered else type(network).__name__
        raise ValueError(
            f"this method trains on interval bounds, which fail at the layer {place}: {error}; use "
            "linear and convolutional layers, batch normalisation, monotone activations and pooling"
        ) from error


def _value(leaf: Any) -> Any:
    return leaf.value if isinstance(leaf, Bounded) else leaf


def _lower(leaf: Any) -> Any:
    return leaf.lower if isinstance(leaf, Bounded) else leaf


def _upper(leaf: Any) -> Any:
    return leaf.upper if isinstance(leaf, Bounded) else leaf


def _in_place(func: Any) -> bool:
    return func.__name__.endswith("_") and not func.__name__.endswith("__")


def _monotone(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation that is nondecreasing in everything that depends on the images."""
    first = args[0] if args and isinstance(args[0], Bounded) else None
    before = first.value._version if first is not None else 0
    value, lower, upper = (
        func(*tree_map(part, args), **tree_map(part, kwargs)) for part in (_value, _lower, _upper)
    )
    if not isinstance(value, Tensor):
        return type(value)(map(Bounded, value, lower, upper))
    if first is not None and value is first.value:  # in place, or nothing to do
        first.product = first.product if value._version == before else None
        return first
    if any(value is leaf for leaf in tree_leaves((args, kwargs))):
        raise Unbounded(f"{func.__name__} changes a tensor that does not depend on the images")
    return Bounded(value, lower, upper)


def _addition(func: Any, args: Any, kwargs: Any) -> Any:
    """A sum, without a factor of its second term."""
    if kwargs.get("alpha", 1) != 1 or len(args) > 2:
        raise Unbounded(f"there are no bounds of {func.__name__} with alpha")
    return _monotone(func, args, kwargs)


def _activation(func: Any, args: Any, kwargs: Any) -> Any:
    """An activation that is nondecreasing if its settings are not negative."""
    numbers = [leaf for leaf in tree_leaves((args[1:], kwargs)) if isinstance(leaf, (int, float))]
    if any(number < 0 for number in numbers):
        raise Unbounded(f"{func.__name__} may decrease with the settings {numbers}")
    return _monotone(func, args, kwargs)


def _falling_second(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation that is nondecreasing in its first argument and nonincreasing in its second."""
    if kwargs:
        raise Unbounded(f"{func.__name__} has settings")
    if not isinstance(args[1], Bounded):
        return _monotone(func, args, {})
    if _in_place(func):
        raise Unbounded(f"there are no bounds of {func.__name__} of two values of the network")
    a, b = args
    return Bounded(func(_value(a), b.value), func(_lower(a), b.upper), func(_upper(a), b.lower))


def _falling(func: Any, args: Any, kwargs: Any) -> Any:
    """A difference from a constant, or a change of sign."""
    if kwargs:
        raise Unbounded(f"{func.__name__} has settings")
    if _in_place(func):
        raise Unbounded(f"there are no bounds of {func.__name__} in place")
    x, *rest = args
    if any(isinstance(value, Bounded) for value in rest):
        raise Unbounded(f"the second argument of {func.__name__} depends on the images")
    return Bounded(*(func(part, *rest) for part in (x.value, x.upper, x.lower)))


def _scaling(func: Any, args: Any, kwargs: Any) -> Any:
    """A product with a constant, or a quotient by a constant."""
    x, factor = args[0], args[1]
    if not isinstance(x, Bounded) and func.__name__ != "div":
        x, factor = factor, x
    if not isinstance(x, Bounded) or isinstance(factor, Bounded) or kwargs or len(args) != 2:
        raise Unbounded(f"both arguments of {func.__name__} depend on the images, or the divisor")
    if _in_place(func):
        raise Unbounded(f"there are no bounds of {func.__name__} in place")
    value, centre = func(x.value, factor), func(x.centre, factor)
    radius = func(x.radius, abs(factor))
    return Bounded(value, centre - radius, centre + radius)


def _weighted(func: Any, args: Any, kwargs: Any) -> Bounded:
    """A linear layer or a convolution."""
    names = ("input", "weight", "bias")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    x, weight, bias = (given.pop(name, None) for name in names)
    if not isinstance(x, Bounded) or isinstance(weight, Bounded) or isinstance(bias, Bounded):
        raise Unbounded(f"the weights of {func.__name__} depend on the images")
    rest = args[3:]
    value, centre = (func(part, weight, bias, *rest, **given) for part in (x.value, x.centre))
    radius = func(x.radius, weight.abs(), None, *rest, **given)
    product = (x, weight, bias) if func is F.linear and x.dim() == 2 else None
    return Bounded(value, centre - radius, centre + radius, product)


def _batch_norm(_func: Any, args: Any, kwargs: Any) -> Bounded:
    """Batch normalisation; in training mode by the statistics of the values."""
    call = inspect.signature(F.batch_norm).bind(*args, **kwargs)
    call.apply_defaults()
    given = call.arguments
    x = given["input"]
    value = F.batch_norm(**{**given, "input": x.value})
    mean, variance = given["running_mean"], given["running_var"]
    if given["training"]:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        variance, mean = torch.var_mean(x.value, axes, correction=0)
    column = (1, -1, *(1,) * (x.dim() - 2))
    scale = (variance + given["eps"]).rsqrt()
    scale = (scale if given["weight"] is None else scale * given["weight"]).view(column)
    centre = (x.centre - mean.view(column)) * scale
    if given["bias"] is not None:
        centre = centre + given["bias"].view(column)
    radius = x.radius * scale.abs()
    return Bounded(value, centre - radius, centre + radius)


def _dropout(func: Any, args: Any, kwargs: Any) -> Bounded:
    """The same places are left out of the values and of their bounds."""
    x, *rest = args
    kept = func(torch.ones_like(x.value), *rest, **{**kwargs, "inplace": False})
    return Bounded(x.value * kept, x.lower * kept, x.upper * kept)


FACTS = frozenset(
    (
        *("shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_cuda", "is_quantized"),
        *("is_sparse", "is_meta", "is_leaf", "size", "dim", "numel", "stride", "is_contiguous"),
        *("is_floating_point", "is_complex", "element_size", "get_device", "__len__", "__hash__"),
        *("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"),
    )
)
"""Operations whose result does not depend on the values."""

RULES: dict[str, Callable[[Any, Any, Any], Any]] = {
    **dict.fromkeys(
        (
            *("flatten", "reshape", "view", "permute", "transpose", "squeeze", "unsqueeze"),
            *("expand", "contiguous", "clone", "to", "float", "double", "type", "cat", "concat"),
            *("stack", "chunk", "split", "unbind", "select", "narrow", "__getitem__", "pad"),
            *("flip", "pixel_shuffle", "unflatten", "repeat", "__iter__", "swapaxes", "detach"),
            *("_pad_circular",),
        ),
        _monotone,
    ),
    **dict.fromkeys(
        (
            *("sum", "mean", "amax", "amin", "maximum", "minimum"),
            *("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"),
            *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
            *("clamp", "clip", "clamp_min", "clamp_max", "relu", "relu6", "hardtanh", "sigmoid"),
            *("tanh", "hardsigmoid", "logsigmoid", "selu", "log", "exp"),
        ),
        _monotone,
    ),
    **dict.fromkeys(("add", "__add__", "__radd__", "__iadd__"), _addition),
    **dict.fromkeys(("leaky_relu", "elu", "celu", "softplus"), _activation),
    **dict.fromkeys(("sub", "__sub__", "__isub__", "subtract"), _falling_second),
    **dict.fromkeys(("__rsub__", "rsub", "neg", "__neg__"), _falling),
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "div", "__truediv__", "multiply"), _scaling),
    **dict.fromkeys(
        ("linear", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"), _weighted
    ),
    "batch_norm": _batch_norm,
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "feature_dropout"), _dropout),
}
"""The rule of each operation, by the name of PyTorch's function or method."""
