"""Reference attacks, one per file. The file's name is the attack's name."""

from __future__ import annotations

from spearshield import discover

__getattr__ = discover.lazy_classes("attacks")
__dir__ = discover.lazy_dir("attacks")
