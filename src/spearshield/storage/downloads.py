"""Where the files of data sets lie, and how missing ones are fetched.

A file in a folder with its data set's name is taken at its word: every format read here carries
checksums of its own, so damage shows. A file elsewhere has to be the published one if there is
one, because MNIST and its replacements use the same file names.
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

from spearshield.storage.atomic import write_atomically

TIMEOUT = 5.0
"""Seconds that a server may stay silent."""

LARGEST = 256 << 20
"""Bytes that a download may have."""


@dataclass(frozen=True)
class File:
    """A file that a data set is read from.

    Args:
        address: Where to get it.
        sha256: Of the published file. Empty: ``address`` is a page for people, not a download.
    """

    name: str
    address: str
    sha256: str = ""


def cache() -> Path:
    """The user's folder for downloads."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spearshield"


def folders(root: Path | None) -> list[Path]:
    """The folders that hold data, first the one to look in first."""
    environment = os.environ.get("SPEARSHIELD_DATA")
    named = [root] if root else []
    return [*named, *([Path(environment).expanduser()] if environment else []), cache()]


def locate(
    dataset: str, files: Sequence[File], root: Path | None, *, beside: str = ""
) -> list[Path]:
    """The paths of ``files``; those that are nowhere are downloaded to the cache.

    Args:
        dataset: The data set's name, and that of the folder its files lie in.
        root: A folder to look in first.
        beside: Another data set whose folder may hold the files.

    Raises:
        FileNotFoundError: Says where it looked, what to put there and how to get it.
        ValueError: A file that had to be the published one is not.
    """
    own = [name for name in (dataset, beside) if name]
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
    """The file or folder that a user means: from the working directory, or in a data folder.

    Raises:
        ValueError: ``path`` is empty.
        FileNotFoundError: It is nowhere; says where it looked.
    """
    if not path:
        raise ValueError("path is empty; set it to where the images lie, as --set data.path=PATH")
    wanted = Path(path).expanduser()
    places = list(dict.fromkeys([wanted, *(folder / wanted for folder in folders(root))]))
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"{path} is not there; looked for {', '.join(map(str, places))}")


class _NotFetchedError(Exception):
    """Why a file could not be downloaded."""


def _find(file: File, places: Sequence[Path], own: Sequence[str]) -> Path | None:
    for place in places:
        path = place / file.name
        if not path.is_file():
            continue
        if file.sha256 and place.name not in own and _sha256(path.read_bytes()) != file.sha256:
            raise ValueError(
                f"{path} is not the published {file.name} of {own[0]} (its SHA-256 differs); "
                f"if it is meant, move it to {place / own[0]}; if not, to a folder named after "
                "its own data set"
            )
        return path
    return None


def _download(file: File, path: Path) -> Path:
    """Fetch ``file``, check it and only then give it its name."""
    if not file.sha256:
        raise _NotFetchedError("it cannot be downloaded by itself")
    request = urllib.request.Request(file.address, headers={"User-Agent": "spearshield"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            content: bytes = answer.read(LARGEST + 1)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the server's answer as well
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
