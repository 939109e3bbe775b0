"""Weights in files, read without running code and checked before they reach a network.

The suffix decides the format: ``.safetensors``, ``.npz``, or torch's ``.pt``, ``.pth``, ``.ckpt``
and ``.bin``, from which nothing is unpickled but tensors and plain values.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from spearshield.storage import archives
from spearshield.storage.archives import DECODER_ERRORS, UnsuitableError, corrupt_as_value_error
from spearshield.storage.atomic import write_atomically

SUFFIXES = (".safetensors", ".npz", ".pt", ".pth", ".ckpt", ".bin")

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
"""The keys under which checkpoints hold the ``state_dict`` of the network."""

PREFIXES = ("module.", "model.", "net.", "_orig_mod.", "classifier.")
"""Prefixes of all names: of DataParallel, Lightning and other wrappers, torch.compile, and of
:class:`~spearshield.method.Defended` without a purifier."""

_COUNTER = "num_batches_tracked"

_REMEDY = "save the weights alone by torch.save(network.state_dict(), path)"


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the weights of ``module`` to a safetensors file, atomically.

    Raises:
        ValueError: ``path`` does not end in ``.safetensors``.
        OSError: Such as a full disk; an earlier file at ``path`` is kept whole.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are written as .safetensors, got {path.name!r}")
    body = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    write_atomically(path, safetensors.torch.save(body))


def load_weights(module: nn.Module, path: Path) -> None:
    """Load the weights of a file into ``module``; if they do not fit, change nothing.

    Floating point numbers of another precision are converted. The counters of batch normalisation
    may be missing. Prefixes of all names (:data:`PREFIXES`) are removed where the names then are
    those of ``module``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated, corrupt or holds more than tensors; its names, shapes or
            types are not those of ``module``; or a number is not finite. Names the file.
    """
    expected = module.state_dict()
    found = _without_prefix(expected, read_weights(path))
    for name in expected:
        if name.rpartition(".")[2] == _COUNTER:
            found.setdefault(name, expected[name])
    if fault := _fault(expected, found):
        raise ValueError(
            f"{path} does not fit the network ({fault}); choose the architecture, number of "
            "classes and image size for which the file was made"
        )
    converted = _converted(expected, found)
    if bad := _not_finite(converted):
        raise ValueError(
            f"{path}: {bad}; the training that wrote it diverged, or the file is corrupt"
        )
    module.load_state_dict(converted)


def load_part(module: nn.Module, name: str, path: Path) -> bool:
    """Load one network of a training, called ``name``, into ``module``; see :func:`load_weights`.

    The file is the checkpoint of the training, the weights of its victim, or those of a purifier.

    Returns:
        True if the file holds such a network, else False.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or corrupt, or the network's weights do not fit or are not
            finite; names the file.
    """
    heads = tuple(f"{where}{name}." for where in ("purifier.", "/state/", ""))
    found = {
        full.removeprefix(head): value
        for full, value in read_weights(path).items()
        for head in heads
        if full.startswith(head)
    }
    if not found:
        return False
    expected = module.state_dict()
    if fault := _fault(expected, found):
        raise ValueError(
            f"{path}: {name} does not fit ({fault}); set the width, latent and data with which it "
            "was trained"
        )
    converted = _converted(expected, found)
    if bad := _not_finite(converted):
        raise ValueError(
            f"{path}: {name} is not finite ({bad}); its training diverged, use another file"
        )
    module.load_state_dict(converted)
    return True


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated, corrupt or holds more than tensors; names the file.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: weights must be a file of {', '.join(SUFFIXES)}")
    if path.suffix == ".npz":
        arrays = archives.npz(path)
        for name, array in arrays.items():
            if array.dtype.kind not in "biufc":
                raise UnsuitableError(f"{path}: {name} holds {array.dtype}, not numbers")
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        with corrupt_as_value_error(path, SafetensorError):
            return safetensors.torch.load(content)
    with corrupt_as_value_error(path):
        return _state_dict(_torch_load(content))


def _torch_load(content: bytes) -> Any:
    """The content of one of torch's files, with errors that do not advise to load it unsafely."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # TorchScript is refused below
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (*DECODER_ERRORS, AssertionError, AttributeError, pickle.UnpicklingError) as error:
        text = str(error)
    if "TorchScript" in text:
        raise UnsuitableError(f"it is a TorchScript archive, which is a program; {_REMEDY}")
    if found := re.search(r"GLOBAL (\S+)", text):
        raise UnsuitableError(
            f"it holds Python objects besides tensors ({found[1]}), which are not read because "
            f"they can run code; {_REMEDY}"
        )
    raise ValueError("not a whole file of torch.save")


def _state_dict(saved: Any) -> dict[str, Tensor]:
    """The ``state_dict`` in a checkpoint, which may lie under one of ``WRAPPERS``."""
    if not isinstance(saved, Mapping):
        raise UnsuitableError(f"it is not a state_dict, but a {type(saved).__name__}")
    if all(isinstance(k, str) and isinstance(v, Tensor) for k, v in saved.items()):
        return dict(saved)
    for wrapper in WRAPPERS:
        if isinstance(saved.get(wrapper), Mapping):
            return _state_dict(saved[wrapper])
    raise UnsuitableError(
        f"it is not a state_dict; its keys are {_some([*map(repr, saved)])}; {_REMEDY}"
    )


def _without_prefix(expected: Mapping[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of ``expected``, if removing prefixes leads there."""
    wanted = {name for name in expected if not name.endswith(_COUNTER)}
    stripped = found
    while stripped:
        if {name for name in stripped if not name.endswith(_COUNTER)} == wanted:
            return stripped
        shared = [p for p in PREFIXES if all(name.startswith(p) for name in stripped)]
        if not shared:
            break
        stripped = {name.removeprefix(shared[0]): value for name, value in stripped.items()}
    return found


def _fault(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What keeps ``found`` from being loaded in place of ``expected``; empty if nothing does."""
    both = [name for name in expected if name in found]
    faults = {
        "missing": [name for name in expected if name not in found],
        "unexpected": sorted(name for name in found if name not in expected),
        "of another shape": [
            f"{name} {tuple(found[name].shape)} for {tuple(expected[name].shape)}"
            for name in both
            if found[name].shape != expected[name].shape
        ],
        "of another type": [
            f"{name} {found[name].dtype} for {expected[name].dtype}"
            for name in both
            if _kind(found[name]) != _kind(expected[name])
        ],
    }
    return "; ".join(f"{fault}: {_some(names)}" for fault, names in faults.items() if names)


def _converted(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``found`` in the types of ``expected``."""
    return {name: value.to(expected[name].dtype) for name, value in found.items()}


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The first tensor with values that are not finite; empty if all are finite."""
    for name, value in tensors.items():
        if count := int((~value.isfinite()).sum()):
            return f"{name} has {count} values that are not finite"
    return ""


def _kind(value: Tensor) -> str:
    """One word for all types that are converted into each other: floats of any precision."""
    return "float" if value.is_floating_point() else str(value.dtype)


def _some(names: list[str], count: int = 3) -> str:
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")
