"""The files of data sets: search on disk, and download of missing files.

A file in a folder with the name of the data set is used without a check of its digest, because the
checksums of its format reveal damage. A file elsewhere must be the published file, if there is one,
because MNIST and its replacements use the same file names.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from spearshield import arguments
from spearshield.storage.atomic import write_atomically

TIMEOUT = 5.0
"""Seconds without data from the server after which a download fails."""

LARGEST = 256 << 20
"""Largest size of a download, in bytes."""


@dataclass(frozen=True)
class File:
    """A file of a data set.

    Args:
        address: The URL of the file, or of a page that explains how to get it.
        sha256: The digest of the published file. Empty: ``address`` is a page, not the file.
    """

    name: str
    address: str
    sha256: str = ""


def cache() -> Path:
    """The user's folder for downloads."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spearshield"


def folders(root: Path | None) -> list[Path]:
    """The folders that are searched for data, in order."""
    environment = os.environ.get("SPEARSHIELD_DATA")
    named = [root] if root else []
    return [*named, *([Path(environment).expanduser()] if environment else []), cache()]


def locate(
    dataset: str, files: Sequence[File], root: Path | None, *, beside: Sequence[str] = ()
) -> list[Path]:
    """The paths of ``files``; missing ones are downloaded to the cache.

    Args:
        dataset: The name of the data set, and of the folder of its files. In that folder, a file
            ``*.gz`` may also be unzipped.
        root: A folder that is searched first.
        beside: Other names of the folder, as other libraries or data sets use them.

    Raises:
        FileNotFoundError: A file is missing; names the searched folders and the source of the file.
        ValueError: A file is not the published one although it must be.
    """
    own = (dataset, *beside)
    places = [place for folder in folders(root) for place in (*(folder / n for n in own), folder)]
    paths = {file: _find(file, places, own) for file in files}
    missing = [file for file in files if paths[file] is None]
    try:
        for file in missing:
            paths[file] = _download(file, cache() / dataset / file.name)
    except _NotFetchedError as reason:
        looked = ", ".join(map(str, places))
        needed = ", ".join(f"{file.name} (from {file.address})" for file in missing)
        raise FileNotFoundError(
            f"{dataset} is missing: {reason}. Looked in {looked}. "
            f"Put there, best in {places[0]}: {needed}"
        ) from reason
    return [path for path in paths.values() if path is not None]


def locate_path(path: str, root: Path | None) -> Path:
    """A user's file or folder, relative to the working directory or to a data folder.

    Raises:
        ValueError: ``path`` is empty.
        FileNotFoundError: There is no such file; names the searched folders.
    """
    if path is None or path == "":
        raise ValueError("path is empty; set it to the path of the images, as --set data.path=PATH")
    wanted = arguments.path("path", path).expanduser()
    places = list(dict.fromkeys([wanted, *(folder / wanted for folder in folders(root))]))
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"there is no {path}; looked for {', '.join(map(str, places))}")


class _NotFetchedError(Exception):
    """The reason why a file could not be downloaded."""


def _find(file: File, places: Sequence[Path], own: Sequence[str]) -> Path | None:
    for place in places:
        path, unzipped = place / file.name, place / file.name.removesuffix(".gz")
        known = any(place.match(name) for name in own)
        if not path.is_file() and unzipped.is_file():
            if not known:
                raise ValueError(
                    f"{unzipped} may belong to another data set with the same names of files; "
                    f"move it to {place / own[0]}"
                )
            path = unzipped
        if not path.is_file():
            continue
        if file.sha256 and not known and _sha256(path.read_bytes()) != file.sha256:
            raise ValueError(
                f"{path} is not the published {file.name} of {own[0]} (its SHA-256 differs); "
                f"if it is the right file, move it to {place / own[0]}; if not, to a folder named "
                "after its own data set"
            )
        return path
    return None


def _download(file: File, path: Path) -> Path:
    """Download ``file``, verify its digest, and only then write it to ``path``."""
    if not file.sha256:
        raise _NotFetchedError("it cannot be downloaded automatically")
    request = urllib.request.Request(file.address, headers={"User-Agent": "spearshield"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            content: bytes = answer.read(LARGEST + 1)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # the error is also the open response
        raise _NotFetchedError(f"{file.address} cannot be downloaded ({error})") from error
    if _sha256(content) != file.sha256:
        raise ValueError(
            f"{file.address} sent {len(content)} bytes that are not {file.name} (SHA-256 "
            f"{_sha256(content)}, expected {file.sha256}); nothing was kept, try again"
        )
    write_atomically(path, content)
    return path


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
