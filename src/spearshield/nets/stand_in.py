"""Differentiable stand-ins for a model, with exactly its values.

:func:`stand_ins` looks for the places where the gradient of a model is cut, zero or different from
finite differences, and differentiates around them:

- operations such as rounding, comparisons and detaching, by
  :class:`~spearshield.nets.surrogate_gradients.SurrogateGradients`;
- the innermost submodules with a wrong gradient, by the identity if the output resembles the
  input, else by a small network that is trained to imitate the submodule;
- a model that is one opaque function, by a small network that imitates all of it.

Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", 2018,
https://arxiv.org/abs/1802.00420, choose such approximations by hand for each defence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias
from unittest import mock

import torch
from torch import Tensor, nn

from spearshield.nets.gradient_test import GradientState, state_of_gradient
from spearshield.nets.imitation import imitation
from spearshield.nets.surrogate_calls import resembles, straight_through
from spearshield.nets.surrogate_gradients import SurrogateGradients
from spearshield.rng import Rng, ambient
from spearshield.types import Classifier, Images, Logits

NOISE = 0.1
"""Share of noise in the tested images: at tied maxima, as in black regions, a sound network has a
gradient but no derivative."""
BATCHES = 16
"""Number of batches of mixed and noisy images on which an imitation is trained."""

Substitutes: TypeAlias = Mapping[nn.Module, Callable[[Tensor], Tensor]]
Records: TypeAlias = dict[nn.Module, tuple[Tensor, Tensor]]
"""The input and the output of each submodule, in its first call."""


@dataclass(frozen=True, eq=False)
class StandIn:
    """A classifier with the values of ``model`` and another gradient.

    Args:
        model: The model. Hooks on it are removed after each call.
        operators: Use surrogate gradients of operations.
        functions: Skip the backward passes that the model defines itself
            (``torch.autograd.Function``) where their input and output have the same shape.
        modules: Differentiable functions in place of submodules.
        whole: A differentiable function in place of the whole model.
    """

    model: Classifier
    operators: bool = True
    functions: bool = False
    modules: Substitutes = field(default_factory=dict)
    whole: Classifier | None = None

    def __call__(self, x: Images) -> Logits:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return self.model(x)
        logits = self.trace(x)[0]
        if not logits.requires_grad:
            logits = logits + 0 * x.flatten(1).sum(1, keepdim=True)
        return logits

    def trace(self, x: Images) -> tuple[Logits, int]:
        """The logits, and the number of surrogate gradients in their graph."""
        if self.whole is not None:
            with torch.no_grad():
                value = self.model(x.detach())
            return straight_through(self.whole(x), value), 1
        with _substituted(self.modules):
            if not self.operators:
                return self.model(x), 0
            logits, used = traced(self.model, x)
        used += len(self.modules)
        return logits, used + (_skip_functions(logits) if self.functions else 0)


def stand_ins(model: Classifier, x: Images, rng: Rng) -> tuple[StandIn, ...]:
    """Stand-ins for ``model``, to attack in turn; for a model without a fault, only itself.

    Args:
        x: Images near which the gradient is tested. The model is only called with batches of the
            same length.
        rng: Randomness of these images.
    """
    plain, repaired = StandIn(model, operators=False), StandIn(model)
    probe = torch.lerp(x, rng.fold(0).uniform(x.shape[1:]).to(x), NOISE)
    with ambient(rng.key):
        own, state = (state_of_gradient(s.trace, probe, rng) for s in (plain, repaired))
        if own == state == "sound":
            return (plain,)
        records = _recorded(model, probe)
        wrong = _innermost(model, records, state, rng) if isinstance(model, nn.Module) else []
        wrong = [module for module in wrong if module is not model]
        found = [repaired] if state == "replaced" else []
        if wrong or state != "replaced":
            found.append(_better(model, x, wrong, records, rng))
    return (*found, plain) if own in ("sound", "false") else tuple(found)


def _better(
    model: Classifier, x: Images, wrong: list[nn.Module], records: Records, rng: Rng
) -> StandIn:
    """A stand-in that differentiates around submodules, and around the whole model if it must."""
    modules = _substitutes(model, wrong, x, records, rng)
    better = StandIn(model, functions=not modules, modules=modules)
    if state_of_gradient(better.trace, x, rng) in ("replaced", "sound"):
        return better
    return StandIn(model, whole=imitation(*_answers(model, model, x, rng), rng))


def traced(function: Classifier, u: Tensor) -> tuple[Tensor, int]:
    """The output with surrogate gradients, and the number of operations that use one."""
    own: list[Tensor] = [u]
    if isinstance(function, nn.Module):
        own += [*function.parameters(), *function.buffers()]
    with (
        SurrogateGradients(own) as mode,
        mock.patch.object(torch._C, "_InferenceMode", nullcontext),
    ):
        v = function(u)
    return mode.result(v), mode.used


def _innermost(
    module: nn.Module, records: Records, state: GradientState, rng: Rng
) -> list[nn.Module]:
    """The innermost submodules with a wrong gradient; ``module`` itself if none is inside it."""
    found: list[nn.Module] = []
    for child in module.children():
        inner: GradientState = "replaced"
        if child in records:
            inner = state_of_gradient(partial(traced, child), records[child][0], rng)
        if inner != "sound":
            found += _innermost(child, records, inner, rng)
    return found or ([module] if state in ("false", "zero", "cut", "failed") else [])


def _substitutes(
    model: Classifier, wrong: list[nn.Module], x: Images, records: Records, rng: Rng
) -> Substitutes:
    """A differentiable function for each of the submodules."""
    found: dict[nn.Module, Callable[[Tensor], Tensor]] = {}
    for number, module in enumerate(wrong):
        u, v = records[module]
        if u.shape == v.shape and resembles(u, v):
            found[module] = _identity
        else:
            own = rng.fold(number + 1)
            found[module] = imitation(*_answers(model, module, x, own), own)
    return found


def _identity(u: Tensor) -> Tensor:
    return u


@torch.no_grad()
def _answers(model: Classifier, part: Classifier, x: Images, rng: Rng) -> tuple[Tensor, Tensor]:
    """Inputs and outputs of a part of the model, or of all of it, for mixed and noisy images."""
    inputs, outputs = [], []
    for number in range(BATCHES):
        own = rng.fold(number)
        other = x.roll(number + 1, 0)
        share = own.fold(0).uniform((1, 1, 1)).to(x) if number else 0.0
        noise = own.fold(1).uniform(x.shape[1:], -0.5, 0.5).to(x) * own.fold(2).uniform((1, 1, 1))
        mixed = (x + share * (other - x) + noise.to(x)).clamp(0, 1)
        if part is model:
            u, v = mixed, model(mixed)
        else:
            u, v = _recorded(model, mixed)[part]  # type: ignore[index]
        inputs.append(u)
        outputs.append(v)
    return torch.cat(inputs), torch.cat(outputs)


@torch.no_grad()
def _recorded(model: Classifier, x: Images) -> Records:
    """Inputs and outputs of the submodules that map one tensor of floats to another."""
    records: Records = {}

    def record(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if len(arguments) != 1 or module in records:
            return
        tensors = [t.detach().clone() for t in (arguments[0], output) if _differentiable(t)]
        if len(tensors) == 2:
            records[module] = (tensors[0], tensors[1])

    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    with _hooked(dict.fromkeys(modules, record)):
        model(x)
    return records


def _differentiable(value: Any) -> bool:
    """True for a batch of floats."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1


@contextmanager
def _substituted(substitutes: Substitutes) -> Iterator[None]:
    """Inside the block, the submodules have the gradients of their substitutes."""

    def hook(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        def replace(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:  # noqa: ARG001
            with torch._C.DisableTorchFunction():
                return straight_through(function(arguments[0]), output)

        return replace

    with _hooked({module: hook(function) for module, function in substitutes.items()}):
        yield


@contextmanager
def _hooked(hooks: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Inside the block, the modules have these forward hooks."""
    handles = []
    try:
        for module, hook in hooks.items():
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _skip_functions(logits: Tensor) -> int:
    """Make the backward passes that a model defines the identity; returns their number."""
    count, seen, nodes = 0, set(), [logits.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [parent for parent, _ in node.next_functions]
        if hasattr(node, "_forward_cls"):
            node.register_hook(_passed_on)
            count += 1
    return count


def _passed_on(
    inputs: tuple[Tensor | None, ...], outputs: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...] | None:
    """The gradient of the first output for the first input of the same shape."""
    gradient = outputs[0]
    if gradient is None:
        return None
    for place, own in enumerate(inputs):
        if own is None or own.shape == gradient.shape:
            return (*inputs[:place], gradient, *inputs[place + 1 :])
    return None
