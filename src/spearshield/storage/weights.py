"""Weights in files: read without running code, checked before a network is touched.

Three forms, told apart by suffix: ``.safetensors``, ``.npz``, and torch's ``.pt`` or ``.pth``,
which are read with ``weights_only`` so that nothing is unpickled but tensors.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from spearshield.storage.atomic import write_atomically

_COUNTER = "num_batches_tracked"
_VICTIM = "classifier."
"""Before the names in a victim whose purifier has no weights."""


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the weights of ``module`` to a safetensors file, atomically.

    Raises:
        ValueError: ``path`` does not end in ``.safetensors``.
        OSError: As on a full disk; what was at ``path`` is still there and whole.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are written as .safetensors, got {path.name!r}")
    body = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    write_atomically(path, safetensors.torch.save(body))


def load_weights(module: nn.Module, path: Path) -> None:
    """Put the weights of a file into ``module``: all of them, or an error and none.

    Floating point numbers of another precision are converted. The counters of batch
    normalisation may be missing. A classifier fits that a training left as a victim without a
    purifier.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or holds more than tensors, its names, shapes or types are
            not those of ``module``, or a number is not finite; names the file.
    """
    expected = module.state_dict()
    found = read_weights(path)
    if not expected.keys() & found.keys() and all(k.startswith(_VICTIM) for k in found):
        found = {name.removeprefix(_VICTIM): value for name, value in found.items()}
    for name in expected:
        if name.rpartition(".")[2] == _COUNTER:
            found.setdefault(name, expected[name])
    _check_names(path, expected, found)
    converted = {name: value.to(expected[name].dtype) for name, value in found.items()}
    for name, value in converted.items():
        if not value.isfinite().all():
            raise ValueError(
                f"{path}: {name} has {int((~value.isfinite()).sum())} values that are not finite; "
                "the file is damaged, or the training that wrote it diverged"
            )
    module.load_state_dict(converted)


def load_part(module: nn.Module, name: str, path: Path) -> bool:
    """Put what a training has left of one of its networks, called ``name`` there, into ``module``.

    The file may be the training's checkpoint, the victim's weights, or a purifier's.

    Returns:
        Whether the file holds such a network.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or the network's weights do not fit or are not finite;
            names the file.
    """
    heads = tuple(f"{where}{name}." for where in ("purifier.", "/state/", ""))
    own = {
        full.removeprefix(head): value
        for full, value in read_weights(path).items()
        for head in heads
        if full.startswith(head)
    }
    if not own:
        return False
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        first = " ".join(line.strip() for line in str(error).splitlines()[1:2])
        raise ValueError(
            f"{path}: {name} does not fit ({first}); set the width, latent and data that it was "
            "trained with"
        ) from error
    if not all(value.isfinite().all() for value in own.values()):
        raise ValueError(f"{path}: {name} is not finite; its training diverged, take another file")
    return True


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or holds more than tensors; names the file.
    """
    readers = {
        ".safetensors": safetensors.torch.load,
        ".npz": _parse_npz,
        ".pt": _parse_torch,
        ".pth": _parse_torch,
    }
    if path.suffix not in readers:
        raise ValueError(f"{path}: weights must be a file of {', '.join(readers)}")
    content = path.read_bytes()
    try:
        return readers[path.suffix](content)
    except _DAMAGE as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(
            f"{path} is damaged, or is not a {path.suffix} file of tensors only ({reason}); get it "
            "anew, or save the network's state_dict as safetensors"
        ) from error


# what the three parsers were seen to raise for files with flipped bytes and for cut ones
_DAMAGE = (
    SafetensorError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def _parse_npz(content: bytes) -> dict[str, Tensor]:
    archive = np.load(io.BytesIO(content), allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError("it holds one array without a name")
    return {name: torch.from_numpy(archive[name]) for name in archive.files}


def _parse_torch(content: bytes) -> dict[str, Tensor]:
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ValueError("it is not a state_dict")
    # nn.DataParallel puts a prefix before every name
    parallel = all(name.startswith("module.") for name in state)
    return {name.removeprefix("module.") if parallel else name: v for name, v in state.items()}


def _check_names(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    both = expected.keys() & found.keys()
    faults = {
        "missing": [name for name in expected if name not in found],
        "unexpected": sorted(name for name in found if name not in expected),
        "of another shape": [
            f"{name} {tuple(found[name].shape)} for {tuple(expected[name].shape)}"
            for name in expected
            if name in both and found[name].shape != expected[name].shape
        ],
        "of another type": [
            f"{name} {found[name].dtype} for {expected[name].dtype}"
            for name in expected
            if name in both and _kind(found[name]) != _kind(expected[name])
        ],
    }
    faulty = "; ".join(f"{what}: {_some(names)}" for what, names in faults.items() if names)
    if faulty:
        raise ValueError(
            f"{path} does not fit the network ({faulty}); choose the architecture, number of "
            "classes and image size that the file was made for"
        )


def _kind(value: Tensor) -> str:
    """What may be converted into each other: floating point numbers of any precision."""
    return "float" if value.is_floating_point() else str(value.dtype)


def _some(names: list[str], count: int = 3) -> str:
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")
