"""Array types of the package.

Shape letters, the same in every signature:
    n      images in a batch
    c h w  channels, height, width
    k      classes

Images are floats in [0, 1], labels are class ids, logits are unnormalised scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

Images: TypeAlias = Float[Tensor, "n c h w"]
Labels: TypeAlias = Int[Tensor, " n"]
Ids: TypeAlias = Int[Tensor, " n"]
Logits: TypeAlias = Float[Tensor, "n k"]
PerImage: TypeAlias = Float[Tensor, " n"]
Mask: TypeAlias = Bool[Tensor, " n"]
Draws: TypeAlias = Int[Tensor, "n draws"]
DetectionScore: TypeAlias = Float[Tensor, "n detectors"]
Column: TypeAlias = Float[Tensor, "n 1 1 1"]
Scalar: TypeAlias = Float[Tensor, ""]

Shape: TypeAlias = tuple[int, int, int]
"""Channels, height, width of one image."""

Classifier: TypeAlias = Callable[[Tensor], Tensor]
"""Maps ``Images`` to ``Logits``."""

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Maps ``Logits`` and ``Labels`` to a ``PerImage`` loss, which an attack increases."""
