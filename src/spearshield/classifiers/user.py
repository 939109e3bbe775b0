"""User: your own network, built by the function ``package.module:function``.

The notation follows the entry points of Python,
https://packaging.python.org/en/latest/specifications/entry-points/.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from spearshield.architecture import Architecture
from spearshield.nets import external
from spearshield.types import Images, Logits, Shape

_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD

_named_by_user: set[str] = set()
"""The functions that the user of this process has named; no other function is imported."""


@dataclass(frozen=True)
class User(Architecture):
    """A network that takes images in [0, 1] and returns logits, from any importable function.

    The function may also be an ``nn.Module`` class. If it has parameters named ``shape`` (channels,
    height, width) and ``classes``, they are passed to it; any other parameter needs a default.

    Importing a function runs code. A ``User`` that was read from a file, such as the recipe of a
    downloaded run folder, therefore builds an :class:`UnnamedFunction`, unless the user of this
    process has named the same function with ``--classifier`` or
    :func:`spearshield.classifiers.architecture`.

    Args:
        target: ``package.module:function``.

    Raises:
        ValueError: From ``build``: the function cannot be imported, cannot be called with these
            arguments, or does not return an ``nn.Module`` that fits images and classes.
    """

    target: str

    @staticmethod
    def named(target: str) -> User:
        """The network of a function that the user has named; from now on it may be imported."""
        _named_by_user.add(target)
        return User(target)

    @property
    def display_name(self) -> str:
        return self.target

    def build(self, shape: Shape, classes: int) -> nn.Module:
        if self.target not in _named_by_user:
            return UnnamedFunction(self.target)
        network = _called(self.target, {"shape": shape, "classes": classes})
        if not isinstance(network, nn.Module):
            raise ValueError(
                f"{self.target} must return a torch.nn.Module, it returned "
                f"{type(network).__name__}; name the function or class that builds the network"
            )
        return external.fitted(network, shape, classes, self.target)


class UnnamedFunction(nn.Module):
    """Replaces a network until the user has named its function; raises when used.

    Purifiers and other parts of a trained run that need no classifier work without the function.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target

    def forward(self, x: Images) -> Logits:  # noqa: ARG002
        self.refuse()

    def state_dict(self, *args: Any, **options: Any) -> NoReturn:  # noqa: ARG002
        self.refuse()

    def refuse(self) -> NoReturn:
        """Raise.

        Raises:
            ValueError: Explains how to name the function.
        """
        raise ValueError(
            f"the classifier is built by {self.target}, which only a file names; importing it runs "
            f"its code. If you trust it, add --classifier {self.target}, or in Python call "
            f"spearshield.classifiers.architecture({self.target!r}) first"
        )


def built_purifier(target: str, shape: Shape) -> Any:
    """The purifier of ``package.module:function``, which the user has named.

    Args:
        target: A function or class that builds the purifier, with no parameter or the one
            ``shape``; a module; or a function from images to images, with one parameter of another
            name.
        shape: Channels, height and width of an image.

    Raises:
        ValueError: It cannot be imported or called.
    """
    named = _imported(target)
    if isinstance(named, nn.Module):
        return named
    parameters = inspect.signature(named).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is _POSITIONAL]
    if len(needed) == 1 and needed != ["shape"] and not isinstance(named, type):
        return named
    return _called(target, {"shape": shape})


def _called(target: str, offered: dict[str, Any]) -> Any:
    """The result of a function, called with the arguments on offer that it takes."""
    function = _imported(target)
    signature = inspect.signature(function)
    arguments = {k: v for k, v in offered.items() if k in signature.parameters}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"{target}{signature} cannot be called ({error}); its parameters may be "
            f"{' and '.join(offered)}, and others only with defaults"
        ) from error
    try:
        return function(**arguments)
    except Exception as error:
        raise ValueError(f"{target} failed: {external.cause(error)}") from error


def _imported(target: str) -> Callable[..., Any]:
    module_name, _, attribute = target.partition(":")
    if not (module_name and attribute):
        raise ValueError(f"write package.module:function, got {target!r}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # only now: a file there must not pass for an optional package
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise ValueError(
            f"{module_name} could not be imported ({external.reason(error)}); install it, or put "
            "its folder on PYTHONPATH"
        ) from error
    except Exception as error:
        raise ValueError(f"{module_name} failed at import: {external.cause(error)}") from error
    function: Callable[..., Any] | None = getattr(module, attribute, None)
    if function is None or not callable(function):
        own = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise ValueError(
            f"{module_name} has no function {attribute!r}; it has {', '.join(own) or 'none'}"
        )
    return function
