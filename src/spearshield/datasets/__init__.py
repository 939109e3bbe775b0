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
from spearshield.storage.downloads import folders


def dataset(spec: str, *, root: Path | None = None, **settings: Any) -> Dataset:
    """The data set of a name, or else of the path of a folder of images or of an npz file.

    Args:
        root: A folder to look for a folder of images in first.
        settings: Fields of the data set, such as ``size`` and ``classes`` of an image folder;
            ``None`` keeps the default.

    Raises:
        ValueError: There is no such name or path, the path is a file of another kind, or the data
            set has no such field; the message lists the names.
    """
    name = spec if spec in discover.names("datasets") else _kind(spec, root)
    kind = discover.find("datasets", Dataset, name)  # type: ignore[type-abstract]
    chosen = {key: value for key, value in settings.items() if value is not None}
    own = [field.name for field in fields(kind)]
    if unknown := [key for key in chosen if key not in own]:
        raise ValueError(f"{name} has no setting {unknown[0]!r}; it has {', '.join(own)}")
    data = kind() if name == spec else kind(path=spec)  # type: ignore[call-arg]
    return replace(data, **chosen)


def _kind(spec: str, root: Path | None) -> str:
    """The name of the data set for a path; ``spec`` itself if it is the path of nothing."""
    places = [Path(), *folders(root)]
    if any((place / spec).is_dir() for place in places):
        return "image_folder"
    if Path(spec).suffix.lower() == ".npz":
        return "npz"
    if Path(spec).is_file():
        raise ValueError(
            f"{spec} is neither an npz file nor a folder: give an npz file, as np.savez(path, "
            "x=images, y=labels) writes it, or a folder of PNG or JPEG images, with one folder for "
            "each class"
        )
    return spec


__getattr__ = discover.lazy_classes("datasets")
__dir__ = discover.lazy_dir("datasets")
