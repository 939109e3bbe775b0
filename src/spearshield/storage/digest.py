"""SHA-256 digests of bytes, texts and tensors, and of the weights of a network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


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


def weights_digest(network: nn.Module) -> str:
    """The digest of the names and values of all weights and buffers of a network.

    Values that are not tensors, such as the packed weights of a quantised layer, enter as text.
    """
    state = sorted(network.state_dict().items())
    return digest(*(part for name, value in state for part in (name, *_parts(value))))


def _parts(value: Any) -> Iterator[str | Tensor]:
    """The tensors in a value of a state dictionary, and all else as text."""
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _parts(part)
    elif isinstance(value, Tensor):
        yield value.dequantize() if value.is_quantized else value
    else:
        yield repr(value)
