"""Compressed files to bytes and arrays. What is truncated, corrupt or a bomb is refused by name."""

from __future__ import annotations

import contextlib
import gzip
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

LARGEST = 4 << 30
"""Bytes that the arrays of one npz may unpack to."""

_DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    LZMAError,
    MemoryError,  # a length that damage made absurd
    OSError,
    RuntimeError,
    SyntaxError,  # Pillow's word for a broken PNG
    TypeError,
    ValueError,
    struct.error,
    tarfile.TarError,
    tokenize.TokenError,  # NumPy's word for a broken header
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def corrupt_as_value_error(path: Path | str, *also: type[Exception]) -> Iterator[None]:
    """Inside, whatever a decoder raises over bad bytes is a ``ValueError`` that names the file.

    Open the file outside, so that a missing permission keeps its own words.

    Args:
        also: A decoder's own exceptions.
    """
    try:
        yield
    except _DAMAGE + also as error:
        why = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is truncated, corrupt or of another kind: {why}") from error


def gunzip(path: Path, largest: int) -> bytes:
    """What a gzip file holds, its checksum verified.

    Raises:
        ValueError: It is truncated or corrupt, or holds more than ``largest`` bytes.
    """
    with (
        path.open("rb") as file,
        corrupt_as_value_error(path),
        gzip.GzipFile(fileobj=file) as stream,
    ):
        content = stream.read(largest + 1)  # past the end, where the checksum is compared
        if len(content) > largest:
            raise ValueError(f"it unpacks to more than {largest} bytes")
        return content


def npz(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Those of the named arrays that an npz file holds, their checksums verified.

    Raises:
        ValueError: It is truncated or corrupt, holds Python objects, or unpacks to more than
            ``LARGEST`` bytes.
    """
    with path.open("rb") as file, corrupt_as_value_error(path), zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            archive.open(info).close()  # is each called as the directory says?
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        members = {name: info for name, info in members.items() if name in names}
        if sum(info.file_size for info in members.values()) > LARGEST:
            raise ValueError(f"its arrays unpack to more than {LARGEST} bytes")
        return {name: _array(archive, info) for name, info in members.items()}


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as member:
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # at the end the checksum is compared
            raise ValueError(f"{info.filename} is longer than its header says")
    return array
