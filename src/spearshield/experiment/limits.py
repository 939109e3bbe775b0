"""Bounds of networks and images that a file describes, checked before memory is allocated."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from spearshield.nets.external import cause
from spearshield.storage.reading import shortened
from spearshield.types import Shape

MOST_WEIGHTS = 2**29
"""Largest number of weights, buffers and initial values that one file makes the package build."""

MOST_TENSORS = 100_000
"""Largest number of tensors that one file makes the package build."""

MOST_PIXELS = 16_000_000
"""Largest number of pixels of an image."""

MOST_CLASSES = 100_000
"""Largest number of classes."""


_BUILDING_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError),
    TypeError,
)


def check_name(name: str) -> None:
    """Raise unless a name can be part of the name of a file.

    Raises:
        ValueError: It is empty, too long, or has other characters.
    """
    if not re.fullmatch(r"[\w~-][\w~. -]{0,99}", name):
        raise ValueError(
            f"name takes at most 100 letters, digits, _, ~, - and inner dots and spaces, got "
            f"{shortened(name)!r}"
        )


def check_images(shape: Shape, classes: int) -> None:
    """Raise unless a shape and a number of classes are those of images that can be classified.

    Args:
        shape: Channels, height and width.

    Raises:
        ValueError: A number is out of range; names it.
    """
    channels, height, width = shape
    if min(shape) < 1 or channels > 1000 or height * width > MOST_PIXELS:
        raise ValueError(
            f"the images have shape {shape}; it must be at most 1000 channels, and a height and a "
            f"width of at least 1 with at most {MOST_PIXELS:,} pixels"
        )
    if not 1 <= classes <= MOST_CLASSES:
        raise ValueError(f"the number of classes is {classes}; it must be 1 to {MOST_CLASSES:,}")


@contextmanager
def built_from(source: Path | str) -> Iterator[None]:
    """Inside the block, networks are built as a file or a recipe describes them, within bounds.

    Raises:
        ValueError: They have more than :data:`MOST_WEIGHTS` weights, or cannot be built; names
            ``source``, and the line where code of others failed.
    """
    try:
        with _Bounded():
            yield
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    except _BUILDING_ERRORS as error:
        raise ValueError(
            f"{source}: a network that it describes cannot be built: {cause(error)}"
        ) from error


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the tensors that are allocated by their size, and raises before one is too many."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors = self.numbers = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        first = next(iter(function._schema.arguments), None)
        if first is not None and first.name == "size" and arguments:
            self.tensors += 1
            self.numbers += math.prod(arguments[0])
            if self.numbers > MOST_WEIGHTS or self.tensors > MOST_TENSORS:
                raise ValueError(
                    f"the network would have more than {MOST_WEIGHTS:,} weights; choose smaller "
                    "settings, or build it yourself and pass it as the classifier"
                )
        return function(*arguments, **(options or {}))
