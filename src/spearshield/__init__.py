"""Generative attacks (spears) and defences (shields) for image classifiers, and their judge.

The front door is :mod:`spearshield.api`; its functions and the vocabulary are attributes of this
package, imported when they are first used. Importing the package itself imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spearshield.spelling import closest

if TYPE_CHECKING:
    from spearshield import attacks, classifiers, datasets, methods
    from spearshield.api import (
        as_classifier,
        attack,
        audit,
        learn_attack,
        load,
        protect,
        transfer_matrix,
    )
    from spearshield.experiment.audit import Report
    from spearshield.experiment.shield import Shield, Spear
    from spearshield.experiment.transfer import TransferMatrix
    from spearshield.threat import L2, Linf
    from spearshield.views import BPDA, EOT, Adaptive, Oblivious

__version__ = "0.1.0"

__all__ = [
    "BPDA",
    "EOT",
    "L2",
    "Adaptive",
    "Linf",
    "Oblivious",
    "Report",
    "Shield",
    "Spear",
    "TransferMatrix",
    "as_classifier",
    "attack",
    "attacks",
    "audit",
    "classifiers",
    "datasets",
    "learn_attack",
    "load",
    "methods",
    "protect",
    "transfer_matrix",
]

_HOMES = {
    "api": (
        *("as_classifier", "attack", "audit", "learn_attack", "load", "protect"),
        "transfer_matrix",
    ),
    "experiment.audit": ("Report",),
    "experiment.shield": ("Shield", "Spear"),
    "experiment.transfer": ("TransferMatrix",),
    "threat": ("L2", "Linf"),
    "views": ("BPDA", "EOT", "Adaptive", "Oblivious"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    near = "" if name.startswith("_") else f"; {closest(name, __all__)}"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{near}")


def __dir__() -> list[str]:
    return sorted(["__version__", *__all__])
