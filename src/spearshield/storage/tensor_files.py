"""Tensors in files of any origin: safetensors, npz, and files of ``torch.save``.

The content of a file decides its format, not its suffix. From the pickles of torch only tensors and
plain values are read. Objects of other types, which a checkpoint may hold beside the weights, are
replaced by :class:`Foreign`; their code is neither imported nor called.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from spearshield.storage import archives
from spearshield.storage.archives import DECODER_ERRORS, UnsuitableError, corrupt_as_value_error
from spearshield.storage.reading import file_bytes, shortened

Groups: TypeAlias = dict[str, dict[str, Tensor]]
"""The tensors of each dictionary in a file, by the dotted name of the dictionary."""

LARGEST = 16 << 30
"""Largest size of a file, in bytes."""

LARGEST_PICKLE = 16 << 20
"""Largest size of the pickle in a file of torch, in bytes. It holds no numbers of tensors."""

DEEPEST = 6
"""Largest number of dictionaries and lists inside each other that are searched for tensors."""

MOST_FOREIGN = 50
"""Largest number of foreign types in a file."""

REMEDY = "save the weights alone by torch.save(network.state_dict(), path)"

_EXPECTED = "expected a file of safetensors, of numpy.savez or of torch.save"


class Foreign:
    """Replaces an object of a type that is not read."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def read_groups(path: Path) -> Groups:
    """The tensors in a file, on the CPU; one group, or in a checkpoint one for each dictionary.

    Raises:
        FileNotFoundError: There is no such file; names the folder in which it was looked for.
        ValueError: The file is of another kind, truncated, corrupt or holds no tensors; names the
            file.
        OSError: It cannot be opened.
    """
    content = file_bytes(path, LARGEST)
    for recognised, read in _FORMATS:
        if recognised(content):
            with corrupt_as_value_error(path, SafetensorError):
                return read(content)
    raise ValueError(f"{path} holds no weights: it is {_kind(content)}; {_EXPECTED}")


def _kind(content: bytes) -> str:
    """The kind of a file without weights; shows nothing of its content."""
    if not content:
        return "empty"
    if content.startswith(b"\x89HDF"):
        return "a file of HDF5, as Keras writes them"
    if content.startswith(b"\x1f\x8b"):
        return "compressed by gzip"
    return "text" if content[:100].isascii() and b"\0" not in content[:100] else "of another kind"


def _read_safetensors(content: bytes) -> Groups:
    return {"": safetensors.torch.load(content)}


def _read_zip(content: bytes) -> Groups:
    """The groups of an npz or of a file of ``torch.save``, both of which are zip archives."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickled = next((name for name in members if name.endswith("data.pkl")), None)
        if any(name.endswith(".npy") for name in members):
            return {"": {k: _from_numpy(k, v) for k, v in archives.arrays_of(archive).items()}}
        if pickled is None:
            names = ", ".join(map(shortened, [*members][:3])) or "nothing"
            raise UnsuitableError(f"it is a zip archive without weights ({names}); {_EXPECTED}")
        if any(name.endswith("constants.pkl") for name in members):
            raise UnsuitableError(f"it is a TorchScript archive, which is a program; {REMEDY}")
        if sum(info.file_size for info in members.values()) > len(content):
            raise UnsuitableError("its parts are compressed, which torch.save does not do")
        if members[pickled].file_size > LARGEST_PICKLE:
            raise UnsuitableError(f"its pickle has more than {LARGEST_PICKLE} bytes; {REMEDY}")
        return _read_torch(content, archive.read(pickled))


def _read_pickle(content: bytes) -> Groups:
    return _read_torch(content, content)


def _read_torch(content: bytes, pickled: bytes) -> Groups:
    """The groups of a file of ``torch.save``.

    Args:
        pickled: The pickle in the file.
    """
    if b"bytearray\n" in pickled:  # torch would allocate one of any size
        raise UnsuitableError(f"it holds a bytearray besides tensors; {REMEDY}")
    saved, foreign = _torch_load(content)
    groups = dict(_groups(saved))
    if groups:
        return groups
    if foreign:
        raise UnsuitableError(_holds(foreign[0]))
    keys = [*saved] if isinstance(saved, Mapping) else []
    what = f"its keys are {', '.join(map(shortened, keys[:5]))}" if keys else type(saved).__name__
    raise UnsuitableError(f"it holds no tensors by name ({what}); {REMEDY}")


def _torch_load(content: bytes) -> tuple[Any, list[str]]:
    """The content of a file of torch, and the names of the foreign types in it."""
    foreign: list[str] = []
    while True:
        inert = [(Foreign, name) for name in foreign]
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(inert):  # type: ignore[arg-type]
                warnings.simplefilter("ignore")  # about other protocols of pickle
                saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            return saved, foreign
        except (*DECODER_ERRORS, AssertionError, AttributeError, pickle.UnpicklingError) as error:
            text = str(error)  # not shown: torch suggests to load the file unsafely
        named = re.search(r"GLOBAL (\S+)", text)
        if named is None and foreign:
            raise UnsuitableError(_holds(foreign[0]))
        if named is None and not content.startswith(b"PK"):  # the old format, and no float8 in it
            raise UnsuitableError(
                "torch cannot read it: it is cut, or holds tensors of a type that the old format "
                f"does not keep; {REMEDY}"
            )
        if named is None:
            raise ValueError("not a whole file of torch.save")
        if named[1] in foreign or len(foreign) == MOST_FOREIGN:
            raise UnsuitableError(_holds(named[1]))
        foreign.append(named[1])


def _holds(foreign: str) -> str:
    return (
        f"it holds Python objects besides tensors ({shortened(foreign)}), which are not read "
        f"because they can run code; {REMEDY}"
    )


def _groups(saved: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The named tensors of each dictionary in a checkpoint, from the outside in."""
    found, seen = deque([("", 0, saved)]), set[int]()
    while found:
        name, depth, part = found.popleft()
        if depth > DEEPEST or id(part) in seen or not isinstance(part, (dict, list, tuple)):
            continue
        seen.add(id(part))
        items = part.items() if isinstance(part, dict) else enumerate(part)
        inner = {str(k): v for k, v in items if isinstance(k, (str, int))}
        tensors = {k: v for k, v in inner.items() if isinstance(v, Tensor)}
        if tensors and isinstance(part, dict) and all(isinstance(k, str) for k in part):
            yield name, tensors
        found.extend((f"{name}.{k}".strip("."), depth + 1, v) for k, v in inner.items())


def _from_numpy(name: str, array: Any) -> Tensor:
    if array.dtype.kind not in "biufc":
        raise UnsuitableError(f"{shortened(name)} holds {array.dtype}, not numbers")
    try:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except TypeError as error:
        raise UnsuitableError(f"{shortened(name)} holds {array.dtype}; save float32") from error


_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Groups]], ...] = (
    (lambda content: content[:4] in (b"PK\3\4", b"PK\5\6"), _read_zip),
    (lambda content: content[8:9] == b"{", _read_safetensors),
    (lambda content: content[:1] == b"\x80", _read_pickle),
)
