"""Surrogates of operations that choose among options, and of operations on such choices.

A hard choice gets the gradient of a softmax over the scores of all options; see
:class:`~spearshield.nets.surrogate_calls.Choice`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from spearshield.nets.surrogate_calls import Call, Choice, Rule, straight_through


def argument_of_extreme(call: Call) -> Any:
    """The position of the highest or lowest score: a :class:`Choice`."""
    dim = call.argument(1, "dim")
    if dim is None or isinstance(dim, Tensor):
        return None
    scores = call.first() * (-1 if call.name in ("argmin", "min") else 1)
    both = isinstance(call.out, tuple)
    place = call.out[1] if both else call.out
    keep = call.argument(2, "keepdim", False)
    choice = Choice.of(scores.movedim(dim, -1), place.squeeze(dim) if keep else place)
    if keep:
        choice = Choice(choice.weights.unsqueeze(dim if dim >= 0 else dim - 1))
    if not both:
        return choice
    reduce = torch.amin if call.name == "min" else torch.amax
    values = None if call.out[0].requires_grad else reduce(call.first(), dim=dim, keepdim=keep)
    return values, choice


def highest(call: Call) -> Any:
    """The positions of the highest scores: one :class:`Choice` for each, equally soft."""
    count, dim = call.argument(1, "k"), call.argument(2, "dim", -1)
    scores, lowest = call.first(), not call.argument(3, "largest", True)
    if dim not in (-1, scores.dim() - 1):
        return None
    scores = (-scores if lowest else scores).unsqueeze(-2)
    soft = Choice.of(scores, call.out[1][..., :1]).weights
    hard = one_hot(call.out[1], scores.shape[-1]).to(soft)
    return None, Choice(straight_through(soft.expand(*soft.shape[:-2], count, -1), hard))


def one_hot_of(call: Call) -> Any:
    """One-hot codes: the weights of a choice; the closeness of a number to each class."""
    options, choice = call.out.shape[-1], call.choice(call.args[0])
    if choice is not None:
        return choice.over(options)
    number = call.first()[..., None]
    return 1 - (number - torch.arange(options).to(number)).abs().clamp(max=1)


def indexed(call: Call) -> Any:
    """Elements of a choice, or the rows of a table that a choice selects."""
    table, index = call.args[:2] if call.name == "getitem" else (call.args[0], call.args[2])
    if call.name == "embedding":
        index, table = call.args[:2]
    own = call.choice(table)
    if own is not None:
        index = index if isinstance(index, tuple) else (index,)
        return Choice(
            own.weights[(*index, slice(None)) if Ellipsis in map(_kind, index) else index]
        )
    index = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    if not isinstance(index, Tensor) or index.is_floating_point() or index.dtype == torch.bool:
        return None
    choice = call.choice(index)
    if choice is None:
        return _interpolated(call.shadow(table), index, call.shadow(index))
    if table.is_floating_point() or table.dim() > 1:
        return choice.lookup(call.shadow(table))
    if table.dtype == torch.bool or table.min() < 0 or table.max() > 100_000:
        return choice.lookup(table)
    return Choice(choice.weights @ one_hot(table.long()).to(choice.weights))


def _interpolated(table: Tensor, index: Tensor, place: Tensor) -> Tensor | None:
    """The rows of a table at differentiable places, with the slope between their neighbours."""
    if not place.requires_grad:
        return None
    above, below = table[(index + 1).clamp(max=len(table) - 1)], table[(index - 1).clamp(min=0)]
    place = place.reshape(*place.shape, *[1] * (table.dim() - 1))
    return table[index] + (above - below) / 2 * (place - place.detach())


def _kind(index: Any) -> Any:
    return index if index is Ellipsis else None


def joined(call: Call) -> Any:
    """Choices that were stacked or concatenated."""
    parts = call.argument(0, "tensors")
    choices = [call.choice(part) for part in parts]
    if any(choice is None for choice in choices):
        return None
    options = max(choice.weights.shape[-1] for choice in choices)
    dim = call.argument(1, "dim", 0)
    join = torch.stack if call.name == "stack" else torch.cat
    return Choice(join([c.over(options) for c in choices], dim if dim >= 0 else dim - 1))


def reshaped(call: Call) -> Any:
    """A choice in another shape."""
    choice = call.choice(call.args[0])
    if choice is None:
        return None
    weights = choice.weights
    if call.name in ("t", "T", "transpose", "mT"):
        return Choice(weights.transpose(0, 1)) if weights.dim() == 3 else None
    if call.name in ("expand", "expand_as"):
        return Choice(weights.expand(*call.out.shape, -1))
    return Choice(weights.reshape(*call.out.shape, -1))


def separated(call: Call) -> Any:
    """The parts of a choice along one dimension."""
    choice = call.choice(call.args[0])
    if choice is None:
        return None
    return tuple(Choice(weights) for weights in choice.weights.unbind(call.argument(1, "dim", 0)))


def most_frequent(call: Call) -> Any:
    """The most frequent choice: the mean of the weights."""
    choice = call.choice(call.args[0])
    if choice is None:
        return None
    dim = call.argument(1, "dim", -1)
    mean = choice.weights.mean(dim if dim >= 0 else dim - 1)
    hard = one_hot(call.out[0], mean.shape[-1]).to(mean)
    return (Choice(straight_through(mean, hard)), None)


def counted(call: Call) -> Any:
    """How often each option was chosen: the sum of the weights."""
    choice = call.choice(call.args[0])
    if choice is None:
        return None
    return choice.over(max(len(call.out), choice.weights.shape[-1])).sum(0)[: len(call.out)]


def scattered(call: Call) -> Any:
    """Numbers written at chosen places: each place by its weight."""
    target, dim, index = call.args[:3]
    choice = call.choice(index)
    if choice is None or index.dim() != 2 or dim not in (1, -1):
        return None
    value = call.args[3] if len(call.args) > 3 else call.kwargs.get("value", call.kwargs.get("src"))
    value = call.shadow(value)
    value = value[:, : index.shape[1], None] if isinstance(value, Tensor) else value
    added = (choice.over(target.shape[1]) * value).sum(1)
    return call.shadow(target) + added


CHOICE_RULES: dict[str, Rule] = {
    **dict.fromkeys(("argmax", "argmin", "max", "min"), argument_of_extreme),
    "topk": highest,
    "one_hot": one_hot_of,
    **dict.fromkeys(("getitem", "index_select", "embedding"), indexed),
    **dict.fromkeys(("stack", "cat", "concat"), joined),
    **dict.fromkeys(("view", "reshape", "flatten", "unsqueeze", "squeeze"), reshaped),
    **dict.fromkeys(("t", "T", "transpose", "mT", "expand", "expand_as"), reshaped),
    **dict.fromkeys(("unbind",), separated),
    "mode": most_frequent,
    "bincount": counted,
    **dict.fromkeys(("scatter", "scatter_add"), scattered),
}
"""The rule of each operation, by its name without underscores at its ends."""
