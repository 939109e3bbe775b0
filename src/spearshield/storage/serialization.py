"""Frozen values as plain JSON types, and back."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

import numpy as np
from torch import Tensor, nn

from spearshield.discover import is_registered_module
from spearshield.storage.content import network_digest
from spearshield.storage.digest import digest
from spearshield.storage.reading import shortened


def dump(value: Any, of_network: Callable[[nn.Module], str] = network_digest) -> Any:
    """A frozen value, such as a recipe, as plain JSON types.

    A network, such as in a learned attack, or a tensor is replaced by its type and digest.

    Args:
        of_network: The digest of a network.
    """
    if isinstance(value, Tensor):
        return {"type": _name(value), "sha256": digest(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": _name(value)} | {
            f.name: dump(getattr(value, f.name), of_network) for f in fields(value)
        }
    if isinstance(value, tuple):
        return [dump(v, of_network) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, nn.Module):
        return {"type": _name(value), "sha256": of_network(value)}
    return value


def load(data: Any, path: str = "") -> Any:
    """The value that :func:`dump` turned into ``data``.

    Only frozen values of this package, and of modules that installed packages register (see
    :mod:`spearshield.discover`), are built, and only from fields of the right types.

    Args:
        path: The dotted name of ``data`` in the value that contains it, for messages.

    Raises:
        ValueError: ``data`` names another type or a network, a field is unknown or missing, or its
            value has the wrong type or range; names the field.
    """
    if isinstance(data, list):
        return tuple(load(v, f"{path}.{i}".strip(".")) for i, v in enumerate(data))
    if not isinstance(data, dict):
        return data
    if "sha256" in data:
        raise ValueError(
            f"refusing to load {data.get('type')!r}: only the digest of a trained network is "
            "stored here; train its method again"
        )
    if "type" not in data:
        raise ValueError(f"{path or 'the object'} has no field 'type'")
    kind = _frozen_type(str(data["type"]))
    values = _field_values(kind, data, path)
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from error


def _field_values(kind: Any, data: dict[str, Any], path: str) -> dict[str, Any]:
    """The loaded values of all fields of ``kind`` in ``data``."""
    expected = {field.name: field for field in fields(kind)}
    hints = typing.get_type_hints(kind)
    values = {}
    for name in data.keys() - {"type"}:
        inner = f"{path}.{name}".strip(".")
        if name not in expected:
            raise ValueError(
                f"{shortened(inner)} is unknown; {kind.__name__} has {', '.join(expected)}"
            )
        values[name] = fitted(load(data[name], inner), hints[name], inner)
    for name, field in expected.items():
        if name not in data and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{path}.{name} is missing".removeprefix("."))
    return values


def _name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _frozen_type(name: str) -> Any:
    """The frozen type with the name ``module:Type``."""
    module, _, own = name.partition(":")
    shown = repr(shortened(name))
    refusal = ValueError(f"refusing to load {shown}: not a frozen value of spearshield")
    if not is_registered_module(module):
        raise refusal
    try:
        kind = getattr(import_module(module), own, None)
    except (ImportError, ValueError) as error:
        raise refusal from error
    own_type = isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module
    if not own_type or inspect.isabstract(kind):
        raise refusal
    return kind


def field_of(data: Any, name: str, hint: Any) -> Any:
    """The value of a field of a JSON object.

    Args:
        name: Its dotted name.
        hint: Its type.

    Raises:
        ValueError: It is missing, or has another type; names the field.
    """
    value: Any = data
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ValueError(f"{name} is missing")
        value = value[part]
    return fitted(load(value, name), hint, name)


def fitted(value: Any, hint: Any, path: str) -> Any:
    """``value`` if it has the type ``hint``; an integer is converted where a float is expected.

    Raises:
        ValueError: It has another type; names the field ``path``.
    """
    choices = get_args(hint) if get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    if float in choices and int not in choices and type(value) is int:
        value = float(value)
    if not any(_is(value, choice) for choice in choices):
        expected = " or ".join(map(_words, choices))
        raise ValueError(f"{path} must be {expected}, got {shortened(repr(value))}")
    return value


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list of {' and '.join(_words(h) for h in get_args(hint) if h is not ...)}"
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint))


def _is(value: Any, hint: Any) -> bool:
    """True if ``value`` has the type ``hint``, or if ``hint`` is not a type of JSON values."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = inner[:1] * len(value) if inner[1:] == (...,) else inner
        return len(kinds) == len(value) and all(map(_is, value, kinds))
    if hint in (int, float):
        return type(value) is hint
    return isinstance(value, hint) if isinstance(hint, type) else True
