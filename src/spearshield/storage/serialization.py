"""Frozen values as plain JSON types, and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

from torch import nn

from spearshield.storage.digest import network_digest


def dump(value: Any) -> Any:
    """A recipe, or any value that one is made of, as plain JSON types.

    A network, which a learned attack holds, is only named, by its type and its digest.
    """
    if is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}:{type(value).__qualname__}"
        return {"type": kind} | {f.name: dump(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [dump(v) for v in value]
    if isinstance(value, nn.Module):
        kind = f"{type(value).__module__}:{type(value).__qualname__}"
        return {"type": kind, "sha256": network_digest(value)}
    return value


def load(data: Any) -> Any:
    """Undo :func:`dump`.

    Raises:
        ValueError: A type from outside this package, or one that is not a frozen value of it; or a
            network.
        TypeError: A field that the type does not have.
    """
    if isinstance(data, list):
        return tuple(load(v) for v in data)
    if isinstance(data, dict):
        module, _, name = str(data.get("type")).partition(":")
        if "sha256" in data:
            raise ValueError(
                f"refusing to load {data.get('type')!r}: a trained network is named by its digest "
                "here, not kept; train its method again"
            )
        if not module.startswith("spearshield."):
            raise ValueError(f"refusing to load {data.get('type')!r}: not a value of spearshield")
        kind = getattr(import_module(module), name, None)
        if not (isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module):
            raise ValueError(f"refusing to load {data['type']!r}: not a value of spearshield")
        return kind(**{k: load(v) for k, v in data.items() if k != "type"})
    return data
