"""Bytes and arrays of compressed files. Truncated, corrupt and oversized files are refused."""

from __future__ import annotations

import contextlib
import gzip
import re
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from lzma import LZMAError
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spearshield.storage.reading import check_file, shortened

LARGEST = 4 << 30
"""Largest size of the unpacked arrays of an npz, in bytes."""

DECODER_ERRORS = (
    ArithmeticError,
    EOFError,
    LookupError,
    LZMAError,
    MemoryError,  # a corrupt length can be huge
    OSError,
    RuntimeError,
    SyntaxError,  # Pillow's error for a broken PNG
    TypeError,
    ValueError,
    struct.error,
    tarfile.TarError,
    tokenize.TokenError,  # NumPy's error for a broken header
    zipfile.BadZipFile,
    zlib.error,
)


class UnsuitableError(ValueError):
    """A file can be decoded, but its content cannot be used; the message gives the reason."""


@contextlib.contextmanager
def corrupt_as_value_error(path: Path | str, *also: type[Exception]) -> Iterator[None]:
    """Turns the errors of decoders into a ``ValueError`` that calls the file truncated or corrupt.

    An :class:`UnsuitableError` keeps its type; its message gets the name of the file. Open the file
    before the block, so that an error about permissions keeps its own message.

    Args:
        also: Further exceptions of this decoder.
    """
    try:
        yield
    except UnsuitableError as error:
        raise UnsuitableError(f"{path}: {error}") from error
    except DECODER_ERRORS + also as error:
        raise ValueError(
            f"{path} is truncated, corrupt or of another kind: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """The message of a decoder, short and without addresses of objects and numbers of errors."""
    message = str(getattr(error, "strerror", None) or error) or type(error).__name__
    plain = re.sub(r"<[\w.]+ object at 0x[0-9a-f]+>", "an object", message)
    return shortened(
        plain if isinstance(error, ValueError) else f"{type(error).__name__}: {plain}", 200
    )


def gunzip(path: Path, largest: int) -> bytes:
    """The content of a gzip file, after a check of its checksum.

    Raises:
        ValueError: The file is truncated or corrupt, or unpacks to more than ``largest`` bytes.
    """
    check_file(path, largest)
    with (
        path.open("rb") as file,
        corrupt_as_value_error(path),
        gzip.GzipFile(fileobj=file) as stream,
    ):
        content = stream.read(largest + 1)  # past the end, where the checksum is compared
        if len(content) > largest:
            raise UnsuitableError(f"it unpacks to more than {largest} bytes")
        return content


def npz(path: Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file, after a check of their checksums.

    Args:
        names: The arrays to read, as far as they exist; ``None``: all.

    Raises:
        ValueError: The file is truncated or corrupt, an array to read holds Python objects, or the
            arrays to read unpack to more than ``LARGEST`` bytes.
    """
    check_file(path, LARGEST)
    _refuse_other_kinds(path)
    with path.open("rb") as file, corrupt_as_value_error(path), zipfile.ZipFile(file) as archive:
        return arrays_of(archive, names)


def arrays_of(
    archive: zipfile.ZipFile, names: Collection[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The arrays of an open npz file; see :func:`npz`.

    Raises:
        UnsuitableError: An array to read holds Python objects, or the arrays to read are too large.
        Exception: Various errors for corrupt bytes; see :func:`corrupt_as_value_error`.
    """
    for info in archive.infolist():
        archive.open(info).close()  # compares both copies of the name of the member
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if names is not None:
        members = {name: info for name, info in members.items() if name in names}
    if sum(info.file_size for info in members.values()) > LARGEST:
        raise UnsuitableError(f"its arrays unpack to more than {LARGEST} bytes")
    return {name: _array(archive, info) for name, info in members.items()}


def npz_names(path: Path) -> list[str]:
    """The names of all arrays of an npz file, which are not read.

    Raises:
        ValueError: The file is truncated or corrupt, or of another kind.
    """
    _refuse_other_kinds(path)
    with path.open("rb") as file, corrupt_as_value_error(path), zipfile.ZipFile(file) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _refuse_other_kinds(path: Path) -> None:
    """Raise unless a file starts as an npz file does.

    Raises:
        UnsuitableError: Names the file and its kind.
    """
    with path.open("rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        kind = "a single array, in NumPy's npy format"
    elif start.startswith(b"PK"):
        return
    else:
        kind = "not an npz file" if start else "empty"
    raise UnsuitableError(
        f"{path} is {kind}; an npz file holds arrays with names, as np.savez(path, x=..., y=...) "
        "writes it"
    )


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as member:
        if not member.peek(6).startswith(b"\x93NUMPY"):  # type: ignore[attr-defined]
            raise UnsuitableError(f"{info.filename} is not an array in NumPy's npy format")
        try:
            array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            name = info.filename.removesuffix(".npy")
            raise UnsuitableError(
                f"{name} holds Python objects, which are not read because they can run code; save "
                "it as an array of numbers or strings"
            ) from error
        if member.read(1):  # the checksum is compared at the end
            raise ValueError(f"{info.filename} is longer than its header says")
    return array
