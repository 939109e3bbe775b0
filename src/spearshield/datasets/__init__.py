"""Data sets, one per file. The file's name is the data set's name.

Files are looked for in ``--data-dir``, then in ``$SPEARSHIELD_DATA``, then in the user's cache
(``$XDG_CACHE_HOME/spearshield``, else ``~/.cache/spearshield``); in each of them first in a folder
with the data set's name, then in the folder itself. What is nowhere and is published somewhere is
downloaded to the cache. See :mod:`spearshield.storage.downloads`.
"""

from __future__ import annotations

from pathlib import Path

from spearshield import discover
from spearshield.dataset import Dataset


def dataset(spec: str) -> Dataset:
    """The data set that a user's word means: a name, else the path of a folder or an npz file.

    Raises:
        ValueError: Neither; the message lists the names.
    """
    path = Path(spec)
    name = spec
    if spec not in discover.names("datasets"):
        name = "npz" if path.suffix == ".npz" else "image_folder" if path.is_dir() else spec
    kind = discover.find("datasets", Dataset, name)  # type: ignore[type-abstract]
    return kind() if name == spec else kind(path=spec)  # type: ignore[call-arg]


__getattr__ = discover.lazy_classes("datasets")
