"""The operations of PyTorch that can be bounded, and the node of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from spearshield.judging.bounds import Affine, Monotone, Node, Rectifier, rounding

MIXING = "the result may depend on other images of the batch"


class NotCertifiable(ValueError):  # noqa: N818
    """The network performs an operation whose values cannot be bounded; the message names it."""


@dataclass(frozen=True)
class Call:
    """An operation of PyTorch with its arguments.

    Args:
        func: The operation, which changes no argument.
        args, kwargs: Its arguments, with nodes in place of tensors that depend on the image. Other
            tensors are in float64.
        output: A tensor without values, with the shape and type of the result.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor

    @property
    def name(self) -> str:
        """The name with the overload, such as ``"add.Tensor"``."""
        name: str = self.func.__name__
        return name

    @property
    def leaves(self) -> list[Any]:
        """All arguments, also those inside lists."""
        leaves: list[Any] = tree_leaves((self.args, self.kwargs))
        return leaves

    @property
    def nodes(self) -> list[Node]:
        return [leaf for leaf in self.leaves if isinstance(leaf, Node)]

    def node(self, images: int) -> Node:
        """The node of the result, for a batch of ``images``, at least two.

        Raises:
            NotCertifiable: There is no rule for the operation or its arguments, or the result of an
                image may depend on other images of the batch, or on its position.
        """
        rule = RULES.get(self.name)
        if rule is None or not self.output.is_floating_point():
            raise self.refusal("there is no rule for it")
        self.require(self.output.dtype != torch.float16, "float16 may overflow")
        self.require(self.output.dim() > 0 and len(self.output) == images, MIXING)
        node = rule(self)
        node.shape = self.output.shape
        if rule not in (convolution, product):  # these treat images alike by definition
            self.require(self._treats_images_alike(), MIXING)
        return node

    def _treats_images_alike(self) -> bool:
        """True if equal images give equal results, and another first image changes no other."""
        equal = [torch.full(node.shape, 0.5).double() for node in self.nodes]
        other = [values.clone() for values in equal]
        for values in other:
            values[0] = 0.25
        alike, changed = self.apply(*equal), self.apply(*other)
        return torch.equal(alike, alike[:1].expand_as(alike)) and torch.equal(
            alike[1:], changed[1:]
        )

    def apply(self, *values: Tensor) -> Tensor:
        """The result of the operation on values of its nodes, in their order.

        The values are contiguous in the operation, so that every recorded view of them exists.
        """
        rest = (value.contiguous() for value in values)
        args, kwargs = tree_map(
            lambda leaf: next(rest) if isinstance(leaf, Node) else leaf, (self.args, self.kwargs)
        )
        return first(self.func(*args, **kwargs))

    def rounding(self, count: int) -> float:
        """Relative error of ``count`` operations in the type of the result."""
        return rounding(count, self.output.dtype)

    def require(self, holds: bool, reason: str) -> None:
        """Raise unless a condition holds.

        Raises:
            NotCertifiable: Names the operation and the reason.
        """
        if not holds:
            raise self.refusal(reason)

    def refusal(self, reason: str) -> NotCertifiable:
        return NotCertifiable(f"the operation {self.func} cannot be bounded: {reason}")


def first(result: Any) -> Tensor:
    """The first tensor that an operation returns."""
    tensor: Tensor = result if isinstance(result, Tensor) else result[0]
    return tensor


def arrangement(call: Call) -> Node:
    """Values are moved, repeated, left out or filled with constants, without rounding."""
    return Affine(call.apply, *call.nodes, roundings=0.0)


def elementwise(call: Call) -> Node:
    """A sum or difference."""
    return Affine(call.apply, *call.nodes, roundings=call.rounding(3))


def conversion(call: Call) -> Node:
    """The values in another type or on another device."""
    return Affine(lambda x: 1 * x, *call.nodes, roundings=call.rounding(1))


def scaling(call: Call) -> Node:
    """A product with a constant, or a quotient by a constant."""
    call.require(len(call.nodes) == 1, "both factors depend on the image")
    is_product = call.name.startswith("mul")
    call.require(is_product or isinstance(call.args[0], Node), "the divisor depends on the image")
    return Affine(call.apply, *call.nodes, roundings=call.rounding(2))


def total(call: Call) -> Node:
    """A sum or mean over axes of the image."""
    (node,) = call.nodes
    count = math.prod(node.shape) // math.prod(call.output.shape)
    return Affine(call.apply, node, roundings=call.rounding(count + 2))


def average(call: Call) -> Node:
    """Means of parts of each channel, at most of the whole channel."""
    (node,) = call.nodes
    return Affine(call.apply, node, roundings=call.rounding(math.prod(node.shape[2:]) + 2))


def interpolation(call: Call) -> Node:
    """Bilinear resizing: a mean of four pixels, with weights rounded like coordinates."""
    (node,) = call.nodes
    size = sum(node.shape[2:]) + sum(call.output.shape[2:])
    return Affine(call.apply, node, roundings=call.rounding(8 * size + 16))


def convolution(call: Call) -> Node:
    x, weight, bias, *settings = call.args
    call.require(isinstance(x, Node) and len(call.nodes) == 1, "its weights depend on the image")
    transposed = settings[3]
    count = weight[:, 0].numel() if transposed else weight[0].numel()
    return Affine(
        lambda x: torch.convolution(x, weight, bias, *settings),
        x,
        roundings=call.rounding(count + 1),
        spread=lambda radius: torch.convolution(radius, weight.abs(), None, *settings),
    )


def product(call: Call) -> Node:
    """A linear layer."""
    *bias, x, weight = call.args
    call.require(isinstance(x, Node) and len(call.nodes) == 1, "its weights depend on the image")
    call.require(not call.kwargs, "it has a factor")
    return Affine(
        call.apply,
        x,
        roundings=call.rounding(len(weight) + len(bias)),
        spread=lambda radius: radius @ weight.abs(),
    )


def batch_norm(call: Call) -> Node:
    x, weight, bias, mean, variance, training, _, eps = call.args
    call.require(not training and len(call.nodes) == 1, "its statistics depend on the batch")
    column = (1, -1, *(1,) * (call.output.dim() - 2))
    scale = (variance + eps).rsqrt() * (1.0 if weight is None else weight)
    shift = torch.zeros_like(scale) if bias is None else bias
    scale, shift, mean = (values.view(column) for values in (scale, shift, mean))
    # Devices differ in the order: some compute x * scale + (shift - mean * scale).
    return Affine(
        lambda x: (x - mean) * scale + shift,
        x,
        roundings=call.rounding(12),
        offset=(mean * scale).abs() + shift.abs(),
    )


def selection(call: Call) -> Node:
    """A maximum, minimum or limit, without rounding."""
    return Monotone(call.apply, *call.nodes, roundings=0.0)


def sigmoid(call: Call) -> Node:
    """An increasing function, which libraries compute with an error of a few roundings."""
    numbers = [leaf for leaf in call.leaves if isinstance(leaf, (int, float))]
    call.require(all(number >= 0 for number in numbers), "it may decrease")
    return Monotone(call.apply, *call.nodes, roundings=call.rounding(16))


def rectifier(call: Call) -> Node:
    slope = 0.0
    if call.name.startswith("leaky"):
        slope = float((*call.args, *call.kwargs.values(), 0.01)[1])
    call.require(0 <= slope <= 1, f"its slope is {slope:g}, not in [0, 1]")
    return Rectifier(call.nodes[0], slope, call.rounding(1) if slope else 0.0)


CONSTANTS = ("zeros_like.default", "ones_like.default", "full_like.default", "new_zeros.default")
"""Operations whose result depends on the shape of their argument alone."""

VIEWS = (
    *("view.default", "_unsafe_view.default", "permute.default", "transpose.int"),
    *("slice.Tensor", "select.int", "squeeze.dim", "squeeze.dims", "unsqueeze.default"),
    *("expand.default", "detach.default", "alias.default"),
)
"""Arrangements whose result may have the memory of their argument."""

RULES: dict[str, Callable[[Call], Node]] = {
    **dict.fromkeys(VIEWS, arrangement),
    **dict.fromkeys(
        (
            *("clone.default", "constant_pad_nd.default", "cat.default", "stack.default"),
            *("flip.default", "pixel_shuffle.default", "upsample_nearest2d.default"),
            *("reflection_pad2d.default", "replication_pad2d.default", "repeat.default"),
        ),
        arrangement,
    ),
    **dict.fromkeys(
        (
            *("add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar", "rsub.Tensor"),
            *("rsub.Scalar", "neg.default"),
        ),
        elementwise,
    ),
    "_to_copy.default": conversion,
    **dict.fromkeys(("mul.Tensor", "mul.Scalar", "div.Tensor", "div.Scalar"), scaling),
    **dict.fromkeys(("mean.dim", "sum.dim_IntList"), total),
    **dict.fromkeys(("avg_pool2d.default", "_adaptive_avg_pool2d.default"), average),
    "upsample_bilinear2d.default": interpolation,
    "convolution.default": convolution,
    **dict.fromkeys(("addmm.default", "mm.default"), product),
    "native_batch_norm.default": batch_norm,
    **dict.fromkeys(
        (
            *("hardtanh.default", "relu6.default", "clamp.default", "clamp_min.default"),
            *("clamp_max.default", "maximum.default", "minimum.default"),
            *("max_pool2d_with_indices.default", "adaptive_max_pool2d.default", "amax.default"),
        ),
        selection,
    ),
    **dict.fromkeys(
        (
            *("sigmoid.default", "tanh.default", "elu.default", "celu.default"),
            *("softplus.default", "hardsigmoid.default"),
        ),
        sigmoid,
    ),
    **dict.fromkeys(("relu.default", "leaky_relu.default"), rectifier),
}
"""The rule of each operation, by the name of the operation in ``torch.ops.aten``."""
