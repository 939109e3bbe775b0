"""Published methods, one per file. The name of the file is the name of the method."""

from __future__ import annotations

from spearshield import discover

__getattr__ = discover.lazy_classes("methods")
__dir__ = discover.lazy_dir("methods")
