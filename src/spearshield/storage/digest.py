"""SHA-256 digests of values and of networks: the keys of everything that is cached on disk.

Two values with the same digest are taken to be the same. What a digest does not cover, a cache
cannot notice.
"""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import is_dataclass
from types import BuiltinFunctionType, FunctionType, NoneType
from typing import Any

import torch
from torch import Tensor, nn

FUNCTIONS = (FunctionType, BuiltinFunctionType)


def digest(*parts: bytes | str | Tensor) -> str:
    """The SHA-256 of all parts in order, as 64 hexadecimal digits.

    Each part enters with its kind and length, so ``digest("ab", "c")``, ``digest("a", "bc")`` and
    ``digest(b"ab", "c")`` differ. A tensor enters with its dtype, shape and elements; its device
    and memory format do not matter.

    Args:
        parts: For other values, pass text that determines them, such as
            ``json.dumps(dump(value))``.
    """
    sha256 = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            kind = f"{part.dtype}{tuple(part.shape)}"
            flat = part.detach().cpu().contiguous().flatten()
            content = flat.view(torch.uint8).numpy().data
        else:
            kind = type(part).__name__
            content = memoryview(part.encode() if isinstance(part, str) else part)
        sha256.update(f"{kind}:{len(content)};".encode())
        sha256.update(content)
    return sha256.hexdigest()


def network_digest(network: nn.Module) -> str:
    """The digest of everything that determines what ``network`` computes in evaluation mode.

    It covers the name and type of each layer; its settings, which are the attributes that are
    numbers, text, functions, frozen values or tuples and lists of these; its parameters and its
    buffers, also those that are not in the ``state_dict``; and the source code of layers that are
    defined outside torch and this package. It does not cover functions that a layer's code calls,
    nor hooks.
    """
    parts: list[str | Tensor] = []
    for path, module in network.named_modules():
        parts += [path, *_sources(type(module)), repr(_settings(module))]
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        parts += [name, value]
    return digest(*parts)


def _settings(module: nn.Module) -> dict[str, str]:
    """The attributes of a layer that decide what it computes, without tensors and layers."""
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    own.pop("training", None)
    return {name: _text(value) for name, value in sorted(own.items()) if _is_setting(value)}


def _is_setting(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_setting, value))
    frozen = is_dataclass(value) and not isinstance(value, type)
    return frozen or isinstance(value, (bool, int, float, str, NoneType, *FUNCTIONS))


def _text(value: Any) -> str:
    """Text that stays the same from one process to the next, unlike a function's ``repr``."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_text, value))})"
    return value.__qualname__ if isinstance(value, FUNCTIONS) else repr(value)


def _sources(kind: type[nn.Module]) -> list[str]:
    """The name of a layer's type, and the code of a type that no package's version determines."""
    parts = [f"{kind.__module__}:{kind.__qualname__}"]
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] not in ("torch", "spearshield", "builtins", "typing"):
            try:
                parts.append(inspect.getsource(base))
            except (OSError, TypeError):  # defined in an interactive session
                parts.append(base.__qualname__)
    return parts
