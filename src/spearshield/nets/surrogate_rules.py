"""The smooth function that takes the place of each operation in the backward pass.

A rule returns a differentiable tensor of the shape of the operation's result, or ``None`` if it
does not apply. The derivative of a step is the derivative of the identity, as in

Bengio, Leonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
Conditional Computation", 2013, https://arxiv.org/abs/1308.3432.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spearshield.nets.surrogate_calls import TINY, Call, Rule
from spearshield.nets.surrogate_choices import CHOICE_RULES


def identity(call: Call) -> Any:
    """Steps, casts and cuts: the first argument itself."""
    choice = call.choice(call.args[0])
    if choice is not None and not call.out.is_floating_point():
        return choice
    return call.first()


def cast(call: Call) -> Any:
    """A conversion to another type of number: nothing if torch differentiates it."""
    source = call.args[0]
    if source.is_floating_point() and call.out.is_floating_point():
        return None
    return identity(call)


def divided(call: Call) -> Any:
    """A quotient that was rounded: the quotient."""
    if call.name == "div" and call.kwargs.get("rounding_mode") is None:
        return None
    a, b = call.both()
    return b / a if call.name == "rfloordiv" else a / b


def searched(call: Call) -> Any:
    """The position of a number among sorted numbers: the number."""
    return call.shadow(call.args[1 if call.name == "searchsorted" else 0])


def stepped(call: Call) -> Any:
    """A comparison: a smooth step as wide as the mean distance from the threshold."""
    a, b = call.both()
    difference = (a - b) * (-1 if call.name in ("lt", "le", "less", "less_equal") else 1)
    return _relative(difference) / 2


def equal(call: Call) -> Any:
    """A test for equality: the closeness of both, or the weight of an option."""
    sign = -1 if call.name in ("ne", "not_equal") else 1
    other = call.argument(1, "other")
    for chosen, option in ((call.args[0], other), (other, call.args[0])):
        choice = call.choice(chosen) if isinstance(chosen, Tensor) else None
        if choice is not None and call.choice(option) is None:
            place = torch.as_tensor(option, device=choice.weights.device).long()
            place = place.clamp(0, choice.weights.shape[-1] - 1).expand(call.out.shape)
            weights = choice.weights.expand(*call.out.shape, -1)
            return sign * weights.gather(-1, place[..., None]).squeeze(-1)
    a, b = call.both()
    return -sign * _relative((a - b).abs())


def _relative(difference: Tensor) -> Tensor:
    """The difference divided by its size and by its mean size in the image: from -1 to 1."""
    size = difference.detach().abs()
    scale = size.flatten(1).mean(1).view(-1, *[1] * (size.dim() - 1)) if size.dim() > 1 else size
    return difference / (scale + difference.abs() + TINY)


def both_hold(call: Call) -> Any:
    """And, of truth values; the bits that remain of a number: the number."""
    a, b = call.both()
    return a * b if call.out.dtype == torch.bool else call.first()


def one_holds(call: Call) -> Any:
    """Or, of truth values."""
    a, b = call.both()
    return a + b - a * b if call.out.dtype == torch.bool else call.first()


def one_differs(call: Call) -> Any:
    """Exclusive or, of truth values."""
    a, b = call.both()
    return a + b - 2 * a * b if call.out.dtype == torch.bool else call.first()


def negated(call: Call) -> Any:
    """Not, of truth values."""
    return 1 - call.first() if call.out.dtype == torch.bool else -call.first()


def extreme(call: Call) -> Any:
    """Any and all: the largest and the smallest truth value."""
    values, dim = call.first(), call.argument(1, "dim")
    keep = call.argument(2, "keepdim", False)
    reduce = torch.amax if call.name == "any" else torch.amin
    return reduce(values, dim=() if dim is None else dim, keepdim=keep)


def shifted(call: Call) -> Any:
    """A shift of bits: a multiple of the number."""
    left = call.name in ("lshift", "bitwise_left_shift")
    a, b = call.both()
    return a * 2.0**b if left else a / 2.0**b


def selected(call: Call) -> Any:
    """``where`` and ``masked_fill``: a mixture of both by the shadow of the mask."""
    if call.name == "where":
        if len(call.args) < 3:
            return None
        mask, a, b = call.args
        if call.choice(mask) is None and not isinstance(mask, Tensor):
            return None
    else:
        b, mask, a = call.args[:3]
        if mask.dtype != torch.bool:
            mask, b = b, mask
    weight, a, b = call.shadow(mask), call.shadow(a), call.shadow(b)
    if not weight.requires_grad:
        return None
    exact = torch.where(mask, a, b)
    gap = _detached(a) - _detached(b)
    gap = torch.as_tensor(gap).nan_to_num(posinf=0.0, neginf=0.0)
    return exact + (weight - weight.detach()) * gap


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


RULES: dict[str, Rule] = {
    **dict.fromkeys(("detach", "data", "round", "floor", "ceil", "trunc", "fix", "sign"), identity),
    **dict.fromkeys(("sgn", "heaviside", "detach_copy"), identity),
    **dict.fromkeys(("clone", "contiguous", "cpu"), cast),
    **dict.fromkeys(("to", "type", "type_as", "byte", "char", "short", "int", "long"), cast),
    **dict.fromkeys(("bool", "float", "double", "half", "bfloat16"), cast),
    **dict.fromkeys(("floor_divide", "floordiv", "rfloordiv", "div", "divide"), divided),
    **dict.fromkeys(("bucketize", "searchsorted"), searched),
    **dict.fromkeys(("gt", "ge", "lt", "le", "greater", "greater_equal"), stepped),
    **dict.fromkeys(("less", "less_equal"), stepped),
    **dict.fromkeys(("eq", "ne", "not_equal"), equal),
    **dict.fromkeys(("and", "rand", "bitwise_and", "logical_and"), both_hold),
    **dict.fromkeys(("or", "ror", "bitwise_or", "logical_or"), one_holds),
    **dict.fromkeys(("xor", "rxor", "bitwise_xor", "logical_xor"), one_differs),
    **dict.fromkeys(("invert", "bitwise_not", "logical_not"), negated),
    **dict.fromkeys(("any", "all"), extreme),
    **dict.fromkeys(("lshift", "rshift"), shifted),
    **dict.fromkeys(("bitwise_left_shift", "bitwise_right_shift"), shifted),
    **dict.fromkeys(("where", "masked_fill"), selected),
    **CHOICE_RULES,
}
"""The rule of each operation, by its name without underscores at its ends."""
