"""Published methods, one paper per file. The file's name is the method's name."""

from __future__ import annotations

from spearshield import discover

__getattr__ = discover.lazy_classes("methods")
