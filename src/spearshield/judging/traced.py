"""The graph of bounded operations that a network performs on a batch of images.

The network runs once on a tensor without values, which records every operation of PyTorch in which
it takes part, in whatever way the network calls it: layers, functions, methods and hooks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from spearshield.foreign import ForeignError
from spearshield.judging.bounded_operations import CONSTANTS, VIEWS, Call, NotCertifiable, first
from spearshield.judging.bounds import Input, Node


class Traced(Tensor):
    """A tensor without values. ``node`` is the operation that computes it, or ``None``.

    ``shared`` is true if another tensor may have the same memory.
    """

    node: Node | None
    shared: bool

    @staticmethod
    def __new__(cls, like: Tensor, device: torch.device, node: Node | None, shared: bool) -> Traced:
        traced = Tensor._make_wrapper_subclass(
            cls, like.shape, strides=like.stride(), dtype=like.dtype, device=device
        )
        traced.node, traced.shared = node, shared
        return traced

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise NotCertifiable(f"{func} is called after the network has returned")


def trace(model: nn.Module, image: Input) -> Node:
    """The node of the logits.

    Raises:
        NotCertifiable: The network performs an operation that cannot be bounded, draws random
            numbers, or computes from several images together.
    """
    x = image.x.float()
    traced = Traced(x.to("meta"), x.device, image, shared=True)
    try:
        with torch.no_grad(), _Recorder(len(x)):
            logits = model(traced)
    except NotCertifiable:
        raise
    except (RuntimeError, TypeError, ForeignError) as error:
        reason = str(error).strip().splitlines()
        raise NotCertifiable(f"the network does not run on bounds: {reason[:1]}") from error
    if not isinstance(logits, Traced) or logits.node is None or logits.dim() != 2:
        raise NotCertifiable("the logits do not depend on the image by bounded operations")
    return logits.node


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operations on traced tensors, and performs all others."""

    def __init__(self, images: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.images = images

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise NotCertifiable(f"the network draws random numbers, by {func}")
        kwargs = kwargs or {}
        traced = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Traced)]
        if not traced:
            return func(*args, **kwargs)
        if func.__name__ in CONSTANTS:
            return func(*tree_map(_blank, args), **kwargs)
        functional = _out_of_place(func)
        meta = functional(*tree_map(_without_values, args), **tree_map(_without_values, kwargs))
        output = first(meta)
        known_args, known_kwargs = tree_map(_constant_or_node, (args, kwargs))
        call = Call(functional, known_args, known_kwargs, output)
        node = call.node(self.images)
        if functional is not func:
            return _overwritten(func, args[0], node, output)
        shared = functional.__name__ in VIEWS
        for leaf in traced:
            leaf.shared = leaf.shared or shared
        device = traced[0].device
        result = Traced(output, device, node, shared)
        if isinstance(meta, Tensor):
            return result
        # Positions of a maximum, or statistics that evaluation does not use.
        return (result, *(Traced(other, device, None, False) for other in meta[1:]))


def _out_of_place(func: Any) -> Any:
    """The operation that computes the same values in a new tensor."""
    base, _, overload = func.__name__.partition(".")
    if not base.endswith("_"):
        return func
    packet = getattr(torch.ops.aten, base.removesuffix("_"), None)
    if packet is None or overload not in packet.overloads():
        raise NotCertifiable(f"the operation {func} cannot be bounded")
    return getattr(packet, overload)


def _overwritten(func: Any, target: Any, node: Node, output: Tensor) -> Traced:
    """The target of an operation in place, with its new node."""
    if not isinstance(target, Traced) or target.shared or target.dtype != output.dtype:
        raise NotCertifiable(f"{func} in place changes a tensor that may be used elsewhere")
    target.node = node
    return target


def _blank(leaf: Any) -> Any:
    if isinstance(leaf, Traced):
        return torch.empty(leaf.shape, dtype=leaf.dtype, device=leaf.device)
    return leaf


def _without_values(leaf: Any) -> Any:
    if isinstance(leaf, Traced):
        return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device="meta")
    if isinstance(leaf, torch.device):
        return torch.device("meta")
    return leaf.to("meta") if isinstance(leaf, Tensor) else leaf


def _constant_or_node(leaf: Any) -> Any:
    if isinstance(leaf, Traced):
        if leaf.node is None:
            raise NotCertifiable("the network uses the positions of a maximum")
        return leaf.node
    if isinstance(leaf, Tensor):
        return leaf.to(torch.float64, copy=True) if leaf.is_floating_point() else leaf.clone()
    return leaf
