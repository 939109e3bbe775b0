"""Data sets, one per file. The file's name is the data set's name.

Files are searched in ``--data-dir``, then in ``$SPEARSHIELD_DATA``, then in the user's cache
(``$XDG_CACHE_HOME/spearshield``, else ``~/.cache/spearshield``); in each of them first in a folder
with the data set's name, then in the folder itself. A missing file that has a published address is
downloaded to the cache. See :mod:`spearshield.storage.downloads`.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from spearshield import discover
from spearshield.dataset import Dataset


def dataset(spec: str, **settings: Any) -> Dataset:
    """The data set of a name, or else of the path of a folder of images or of an npz file.

    Args:
        settings: Fields of the data set, such as ``size`` and ``classes`` of an image folder; those
            that are ``None`` keep their defaults.

    Raises:
        ValueError: Not a name and not such a path, or the data set has no such field; the message
            lists the names.
    """
    path = Path(spec)
    name = spec
    if spec not in discover.names("datasets"):
        name = "npz" if path.suffix == ".npz" else "image_folder" if path.is_dir() else spec
    kind = discover.find("datasets", Dataset, name)  # type: ignore[type-abstract]
    chosen = {key: value for key, value in settings.items() if value is not None}
    known = [field.name for field in fields(kind)]
    if unknown := [key for key in chosen if key not in known]:
        raise ValueError(f"{name} has no setting {unknown[0]!r}; it has {', '.join(known)}")
    data = kind() if name == spec else kind(path=spec)  # type: ignore[call-arg]
    return replace(data, **chosen)


__getattr__ = discover.lazy_classes("datasets")
