"""Surrogate gradients for operations of a model that cut or zero the gradient.

Inside the mode, every operation returns exactly the value that it returns outside of it. Only its
derivative changes: an operation without a useful derivative gets the derivative of a smooth
function with nearly the same values. This is the Backward Pass Differentiable Approximation of

Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", 2018,
https://arxiv.org/abs/1802.00420, section 4,

for each operation in place of the whole model. Integers and truth values cannot have a gradient, so
the mode keeps a differentiable float tensor of the same values for each of them: its *shadow*.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from spearshield.nets.surrogate_calls import Call, resembles, straight_through
from spearshield.nets.surrogate_rules import RULES

EXPORTS = ("numpy", "__array__", "tolist", "item", "__float__", "__int__", "__index__")
"""Operations whose results leave torch and carry no gradient."""
IMPORTS = ("tensor", "as_tensor", "asarray", "from_numpy", "frombuffer")
"""Operations that make a tensor of numbers from outside of torch."""
IGNORED = ("_set_grad_enabled", "register_hook", "register_post_accumulate_grad_hook")
"""Operations that only change gradients: they do nothing inside the mode."""
IN_PLACE_OPERATORS = ("iadd", "isub", "imul", "itruediv", "ifloordiv", "iand", "ior", "ixor")
LARGEST = 1 << 24
"""Largest integer with a shadow. Larger ones, such as hashes, have no smooth meaning."""
UNCHANGED = ("requires_grad_", "copy_", "zero_", "fill_", "resize_", "set_", "share_memory_")
"""Operations in place that need no surrogate."""


class SurrogateGradients(TorchFunctionMode):
    """Inside this context, a model has its own values and surrogate gradients.

    The context ignores ``torch.no_grad`` and hooks on gradients. An array that comes back from
    NumPy gets the gradient of an array that went there, if it resembles it in shape and values.

    Args:
        own: Tensors that belong to the model, such as its weights; they did not come from NumPy.

    Attributes:
        used: Number of operations with a surrogate gradient so far.
    """

    def __init__(self, own: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.used = 0
        self._shadows = WeakTensorKeyDictionary()
        self._choices = WeakTensorKeyDictionary()
        self._known = WeakTensorKeyDictionary()
        self._own = WeakTensorKeyDictionary()
        self._exported: list[Tensor] = []
        for tensor in own:
            self._known[tensor] = self._own[tensor] = True

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs, name = kwargs or {}, operation(func)
        if name in IGNORED:
            self.used += 1
            return RemovableHandle(OrderedDict()) if name != "_set_grad_enabled" else None
        if not torch.is_grad_enabled():  # inside a backward pass that the model defines
            return func(*args, **kwargs)
        tensors = [leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in tensors if self._exported else ():
            self._adopt(tensor)
        if exports(func) and tensors:
            return self._export(func, args, kwargs)
        tagged = any(t in self._shadows or t in self._choices for t in tensors)
        if name in IMPORTS:
            return self._imported(func(*args, **kwargs))
        if not tagged and not (name.strip("_") in RULES and any(t.requires_grad for t in tensors)):
            return self._remember(func(*args, **kwargs))
        return self._replaced(func, types, args, kwargs, tagged)

    def _replaced(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tagged: bool,
    ) -> Any:
        """The result of an operation that may need a surrogate gradient."""
        name = operation(func)
        plain = name.strip("_")
        if plain == "iter":
            return iter(self.__torch_function__(torch.unbind, types, args))
        if plain == "setitem":
            self._set_item(func, *args)
            return None
        in_place = plain in IN_PLACE_OPERATORS or (name.endswith("_") and not name.startswith("_"))
        if in_place and name not in UNCHANGED:
            return self._in_place(func, plain, types, args, kwargs)
        return self._call(func, plain, args, kwargs, tagged)

    def _call(
        self,
        func: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tagged: bool,
    ) -> Any:
        """The result of an operation, with a surrogate gradient where it needs one."""
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor | tuple | list):
            return out
        call = Call(func, name, args, kwargs, out, self.shadow, self._choices.get)
        rule = RULES.get(name)
        found = rule(call) if rule else None
        if found is None and tagged:
            found = call.with_shadows()
        return self._linked(out, found)

    def result(self, out: Tensor) -> Tensor:
        """A model's result, with its gradient if it came from NumPy without another operation."""
        self._adopt(out)
        return straight_through(self.shadow(out), out) if out in self._shadows else out

    def shadow(self, value: Any) -> Any:
        """The differentiable float tensor with the values of a tensor; other values unchanged."""
        if not isinstance(value, Tensor):
            return value
        if value in self._shadows:
            return self._shadows[value]
        if value in self._choices:
            return self._choices[value].mean
        return value if value.is_floating_point() or value.is_complex() else value.float()

    def _linked(self, out: Any, found: Any) -> Any:
        """``out`` with the gradient of ``found``; unchanged if ``found`` does not fit."""
        if isinstance(out, tuple | list) and isinstance(found, tuple | list):
            parts = [self._linked(a, b) for a, b in zip(out, found, strict=False)]
            return type(out)(parts)
        if not isinstance(out, Tensor):
            return out
        if isinstance(found, Tensor):
            if found.requires_grad and found.shape == out.shape:
                if out.is_floating_point():
                    self.used += 1
                    return self._remember(straight_through(found, out))
                if out.dtype != torch.bool and out.double().abs().amax() > LARGEST:
                    return self._remember(out)
                self._shadows[out] = straight_through(found, out.to(found.dtype))
        elif found is not None:
            self._choices[out] = found
        return self._remember(out)

    def _in_place(
        self,
        func: Callable[..., Any],
        name: str,
        types: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """The changed first argument, with the gradient of the operation that is not in place."""
        target: Tensor = args[0]
        apart = getattr(Tensor, name[1:] if name in IN_PLACE_OPERATORS else name, None)
        if apart is None or target in self._own:
            return func(*args, **kwargs)
        before = target.clone()
        self._tag(before, target)
        result = self.__torch_function__(apart, types, (before, *args[1:]), kwargs)
        return self._replace(target, result)

    def _replace(self, target: Tensor, result: Tensor) -> Tensor:
        """``target`` with the values and the gradient of ``result``."""
        if target.is_floating_point():
            return target.copy_(self.shadow(result))
        target.copy_(result.detach())
        self._tag(target, result)
        return target

    def _tag(self, target: Tensor, source: Tensor) -> None:
        """Give ``target`` the shadow and the choice of ``source``."""
        for tags in (self._shadows, self._choices):
            if target in tags:
                del tags[target]
            if source in tags:
                tags[target] = tags[source]

    def _set_item(self, func: Callable[..., Any], target: Tensor, index: Any, value: Any) -> None:
        """Assignment to some elements."""
        before = self.shadow(target).clone()
        if target in self._own:
            func(target, index, value)
            return
        after = target.detach().clone()
        after[index] = value.detach() if isinstance(value, Tensor) else value
        last = index[-1] if isinstance(index, tuple) else index
        if isinstance(last, Tensor) and last in self._choices:
            found = before + self._choices[last].over(target.shape[-1])
        elif isinstance(last, Tensor) and last in self._shadows and last.shape == target.shape:
            chosen = self._shadows[last]
            new = after.to(before.dtype)
            found = torch.where(last, new, before)
            found = found + (chosen - chosen.detach()) * (new - before.detach())
        else:
            found = before
            found[tree_map(self._plain_index, index)] = self.shadow(value)
        self._replace(target, self._linked(after, found))

    @staticmethod
    def _plain_index(index: Any) -> Any:
        return index.detach() if isinstance(index, Tensor) else index

    def _export(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The result of an operation that leaves torch."""
        source = args[0]
        shadow = self.shadow(source)
        if shadow.requires_grad and shadow.dim() > 0:
            self._exported.append(shadow)
        return func(source.detach(), *args[1:], **kwargs)

    def _imported(self, out: Tensor) -> Tensor:
        """A tensor that was made now from numbers outside of torch."""
        if self._exported:
            self._adopt(out)
        self._remember(out)
        return out

    def _adopt(self, tensor: Tensor) -> None:
        """Give a tensor that no operation made the gradient of an array that left torch."""
        if tensor in self._known or tensor.requires_grad:
            return
        self._known[tensor] = True
        for place, exported in enumerate(self._exported):
            fitted = _fitted(exported, tensor.shape)
            if fitted is not None and resembles(fitted, tensor):
                del self._exported[place]
                self.used += 1
                self._shadows[tensor] = straight_through(fitted, tensor.to(fitted.dtype))
                return

    def _remember(self, out: Any) -> Any:
        for leaf in tree_iter(out) if isinstance(out, tuple | list) else (out,):
            if isinstance(leaf, Tensor):
                self._known[leaf] = True
        return out


def operation(func: Callable[..., Any]) -> str:
    """The name of an operation of torch; of a property, its name."""
    name: str = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", name)
    return name


def exports(func: Callable[..., Any]) -> bool:
    """True for operations such as ``x.numpy()`` and ``float(x)``, whose results leave torch."""
    return operation(func) in EXPORTS


def _fitted(exported: Tensor, shape: torch.Size) -> Tensor | None:
    """An exported tensor in this shape, with channels moved; ``None`` if it does not fit."""
    if exported.shape == shape:
        return exported
    if exported.dim() in (3, 4) and len(shape) == exported.dim():
        for moved in (exported.movedim(-3, -1), exported.movedim(-1, -3)):
            if moved.shape == shape:
                return moved
    if [s for s in exported.shape if s > 1] == [s for s in shape if s > 1]:
        return exported.reshape(shape)
    return None
