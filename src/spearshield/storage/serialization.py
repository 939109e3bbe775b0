"""Frozen values as plain JSON types, and back."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import torch
from torch import nn


def dump(value: Any) -> Any:
    """A recipe, or any value that one is made of, as plain JSON types.

    A network, which a learned attack holds, is only named: by its type and its numbers' digest.
    """
    if is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}:{type(value).__qualname__}"
        return {"type": kind} | {f.name: dump(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [dump(v) for v in value]
    if isinstance(value, nn.Module):
        kind = f"{type(value).__module__}:{type(value).__qualname__}"
        return {"type": kind, "sha256": _digest(value)}
    return value


def _digest(network: nn.Module) -> str:
    """What tells a network from others: the kinds of its layers, its weights and its buffers."""
    digest = hashlib.sha256()
    for path, module in network.named_modules():
        digest.update(f"{path}:{type(module).__qualname__};".encode())
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        digest.update(f"{name}:{value.dtype}{tuple(value.shape)};".encode())
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(content.numpy().tobytes())
    return digest.hexdigest()


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
