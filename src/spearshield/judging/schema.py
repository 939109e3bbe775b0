"""JSON schemas that follow from the annotated fields of dataclasses. Imports no torch.

A field without a default is required, and unknown fields are refused. The metadata of ``Annotated``
narrows a type: :func:`keywords` adds keywords of JSON Schema (draft 2020-12), and a dataclass gives
the fields of a dictionary.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}


def keywords(**constraints: Any) -> tuple[tuple[str, Any], ...]:
    """Metadata for ``Annotated``: keywords of JSON Schema, such as ``minimum=0``."""
    return tuple(constraints.items())


def schema_of(kind: Any) -> dict[str, Any]:
    """The schema of the JSON values of a type.

    Args:
        kind: A dataclass; ``str``, ``bool``, ``int``, ``float``, ``None`` or ``Any``; or
            ``Annotated``, ``Literal``, a union, a tuple, a list or a dictionary of these.
    """
    origin, parameters = get_origin(kind), get_args(kind)
    schema: dict[str, Any] = {}
    if is_dataclass(kind):
        schema = _object(kind)
    elif origin is Annotated:
        narrowed, constraint = parameters
        more = schema_of(constraint) if is_dataclass(constraint) else dict(constraint)
        schema = schema_of(narrowed) | more
    elif origin is Literal:
        schema = {"enum": [*parameters]}
    elif origin in (Union, UnionType):
        schema = {"anyOf": [schema_of(each) for each in parameters]}
    elif origin is tuple:
        items, count = [schema_of(each) for each in parameters], len(parameters)
        schema = {"type": "array", "prefixItems": items, "minItems": count, "maxItems": count}
    elif origin is list:
        schema = {"type": "array", "items": schema_of(*parameters)}
    elif origin is dict:
        schema = _dictionary(*parameters)
    elif kind is not Any:
        schema = {"type": TYPES[kind]}
    return schema


def from_json(kind: Any, value: Any) -> Any:
    """A valid JSON value as a value of the type, with its dataclasses and tuples."""
    kind = _stripped(kind)
    parameters = get_args(kind)
    if isinstance(value, dict) and is_dataclass(kind) and isinstance(kind, type):
        types = _types(kind)
        return kind(**{name: from_json(types[name], each) for name, each in value.items()})
    if isinstance(value, dict) and parameters:
        return {name: from_json(parameters[1], each) for name, each in value.items()}
    if isinstance(value, list) and get_origin(kind) is tuple:
        return tuple(from_json(*pair) for pair in zip(parameters, value, strict=True))
    if isinstance(value, list) and parameters:
        return [from_json(parameters[0], each) for each in value]
    return value


def _object(kind: Any) -> dict[str, Any]:
    types = _types(kind)
    defaults = {field.name: (field.default, field.default_factory) for field in fields(kind)}
    return {
        "type": "object",
        "properties": {name: schema_of(types[name]) for name in defaults},
        "required": [name for name, pair in defaults.items() if pair == (MISSING, MISSING)],
        "additionalProperties": False,
    }


def _dictionary(key: Any, value: Any) -> dict[str, Any]:
    """The schema of a dictionary; a ``Literal`` as type of the keys lists all allowed keys."""
    if get_origin(key) is Literal:
        entries = {name: schema_of(value) for name in get_args(key)}
        return {"type": "object", "properties": entries, "additionalProperties": False}
    return {"type": "object", "additionalProperties": schema_of(value)}


def _stripped(kind: Any) -> Any:
    """The type without the metadata of ``Annotated`` and without ``None``."""
    if get_origin(kind) is Annotated:
        return _stripped(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return _stripped(next(each for each in get_args(kind) if each is not NoneType))
    return kind


@cache
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
