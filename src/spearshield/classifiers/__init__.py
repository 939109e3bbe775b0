"""Classifier architectures, one per file. The file's name is the architecture's name."""

from __future__ import annotations

from dataclasses import MISSING, fields

from spearshield import discover
from spearshield.architecture import Architecture


def architecture(spec: str) -> Architecture:
    """The architecture of a name, with its default settings.

    Args:
        spec: The name of a file of :mod:`spearshield.classifiers` (``lenet``) or of an installed
            classifier; a model of another library (``torchvision:NAME``, ``timm:NAME``); or a
            function that builds a network (``package.module:function``), which is imported when
            the network is built.

    Raises:
        ValueError: No such name; the message lists the names.
    """
    from spearshield.classifiers.timm_model import TimmModel  # noqa: PLC0415
    from spearshield.classifiers.torchvision_model import TorchvisionModel  # noqa: PLC0415
    from spearshield.classifiers.user import User  # noqa: PLC0415

    prefix, colon, name = spec.partition(":")
    if prefix == "torchvision" and colon:
        return TorchvisionModel(name)
    if prefix == "timm" and colon:
        return TimmModel(name)
    if colon:
        return User.named(spec)
    if any(separator in spec for separator in "./\\"):
        raise ValueError(f"{spec!r} names no classifier; write package.module:function")
    kind = discover.find("classifiers", Architecture, spec)  # type: ignore[type-abstract]
    if any(f.default is MISSING and f.default_factory is MISSING for f in fields(kind)):
        raise ValueError(
            f"{spec!r} alone is not a network; "
            "write torchvision:NAME, timm:NAME or package.module:function"
        )
    return kind()


__getattr__ = discover.lazy_classes("classifiers")
__dir__ = discover.lazy_dir("classifiers")
