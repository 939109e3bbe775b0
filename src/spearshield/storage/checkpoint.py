"""Checkpoints: one safetensors file each, written atomically.

A checkpoint is a tree of dicts and lists with tensors and JSON values as leaves. The body of the
file holds the tensors under their paths; the header holds the rest and a checksum of the body.
Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from spearshield.storage.atomic import write_atomically
from spearshield.storage.reading import check_file, parse_json
from spearshield.storage.tensor_files import LARGEST

_TENSOR = "$tensor"
_INT_KEYS = "$int_keys"


def save(path: Path, tree: Any) -> None:
    """Write a tree of dicts, lists, tensors and JSON values to ``path``, atomically."""
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_split(tree, "", tensors), allow_nan=False)
    body = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    header = {"tree": skeleton, "sha256": _checksum(body)}
    write_atomically(path, safetensors.torch.save(body, header))


def load(path: Path) -> Any:
    """The tree that :func:`save` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated, altered or not a checkpoint; names the file.
    """
    check_file(path, LARGEST)
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata() or {}
            body = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a checkpoint ({error}); {_REMEDY}") from error
    if "tree" not in header or header.get("sha256") != _checksum(body):
        raise ValueError(f"{path} is corrupt: its checksum does not match; {_REMEDY}")
    try:
        return _join(parse_json(header["tree"]), body)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a checkpoint ({error}); {_REMEDY}") from error


_REMEDY = "delete it to compute it again, or restore it from a copy"


def _split(tree: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, Tensor):
        tensors[path] = tree
        return {_TENSOR: path}
    if isinstance(tree, dict):
        ints = bool(tree) and all(isinstance(key, int) for key in tree)
        inner = {str(k): _split(v, f"{path}/{k}", tensors) for k, v in tree.items()}
        return {_INT_KEYS: inner} if ints else inner
    if isinstance(tree, (list, tuple)):
        return [_split(v, f"{path}/{i}", tensors) for i, v in enumerate(tree)]
    return tree


def _join(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, dict):
        if _TENSOR in tree:
            return tensors[tree[_TENSOR]]
        if _INT_KEYS in tree:
            return {int(k): _join(v, tensors) for k, v in tree[_INT_KEYS].items()}
        return {k: _join(v, tensors) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_join(v, tensors) for v in tree]
    return tree


def _checksum(body: dict[str, Tensor]) -> str:
    """SHA-256 of names and elements; part of the file format, so it must not change."""
    digest = hashlib.sha256()
    for name in sorted(body):
        digest.update(name.encode())
        digest.update(body[name].flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
