"""Calls of a user's own code, whose errors are shown as the user's, with file and line."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_PACKAGE = str(Path(__file__).parent) + os.sep
_TORCH = str(Path(torch.__file__).parent) + os.sep
_LIBRARY = sysconfig.get_path("stdlib") + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class ForeignError(ValueError):
    """An error inside a user's own network or function, which is its ``__cause__``."""


def call(function: Callable[..., Any], *arguments: Any, lead: str = "", **options: Any) -> Any:
    """The result of ``function``, which is code of the user or calls it.

    Args:
        lead: The beginning of the message of an error; by default it names the function and the
            shape of the images.

    Raises:
        ForeignError: The function raised an error. Errors that this package raises on purpose pass.
    """
    try:
        return function(*arguments, **options)
    except Exception as error:
        if _is_ours(error):
            raise
        raise ForeignError(f"{lead or _lead(function, arguments)}: {cause(error)}") from error


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function, or of the class of a module."""
    kind = type(function)
    return (
        kind.__name__
        if isinstance(function, nn.Module)
        else str(getattr(function, "__name__", kind.__name__))
    )


def cause(error: BaseException) -> str:
    """The type and message of an error in a user's code, in one line, with file and line number."""
    message, kind = reason(error), type(error).__name__
    plain = isinstance(error, (RuntimeError, ValueError, AssertionError)) or message == kind
    places = _places(error)
    own = [place for place in places if not any(part in place for part in _INSTALLED)] or places
    return (message if plain else f"{kind}: {message}") + (f" (at {own[-1]})" if own else "")


def reason(error: BaseException) -> str:
    """The message of an error in one line, or else the type of the error.

    Of a message of several lines the first one counts. The first line of TorchScript introduces a
    traceback, so there the last one does.
    """
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    if "TorchScript" in lines[0]:
        return lines[-1]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _lead(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    shapes = [tuple(value.shape) for value in arguments if isinstance(value, Tensor)]
    return " on images of shape ".join([f"{name_of(function)} fails", *map(str, shapes[:1])])


def _places(error: BaseException) -> list[str]:
    """File and line of each frame that is neither in this package, torch nor Python's library."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{f.filename}:{f.lineno}" for f in frames if not _is_known(f.filename)]


def _is_known(file: str) -> bool:
    """True for a file of this package, torch or Python's library."""
    if file.startswith((_PACKAGE, _TORCH, "<frozen")):
        return True
    return file.startswith(_LIBRARY) and not any(part in file for part in _INSTALLED)


def _is_ours(error: BaseException) -> bool:
    """True if this package raised the error, or defines its class."""
    if type(error).__module__.partition(".")[0] == __name__.partition(".")[0]:
        return True
    if isinstance(error, RecursionError) or isinstance(error.__cause__, StopIteration):
        return False  # raised wherever the stack ends, or by a generator that it passes
    raised = traceback.extract_tb(error.__traceback__)[-1].filename
    return raised.startswith(_PACKAGE) and raised != __file__
