"""User: your own network, built by the function ``package.module:function``.

The notation follows the entry points of Python,
https://packaging.python.org/en/latest/specifications/entry-points/.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NoReturn

from torch import nn

from spearshield import foreign
from spearshield.architecture import Architecture
from spearshield.inputs import check_model
from spearshield.nets import external
from spearshield.types import Images, Logits, Shape

_NEEDED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
"""The kinds of parameters that need an argument by name."""

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
        network = self.network(shape, classes)
        if isinstance(network, UnnamedFunction):
            return network
        return external.fitted(network, shape, classes, self.target)

    def network(self, shape: Shape, classes: int) -> nn.Module:
        if self.target not in _named_by_user:
            return UnnamedFunction(self.target)
        network = _called(self.target, {"shape": shape, "classes": classes})
        if not isinstance(network, nn.Module):
            raise ValueError(
                f"{self.target} must return a torch.nn.Module, it returned "
                f"{type(network).__name__}; name the function or class that builds the network"
            )
        external.answer(network, shape, self.target)
        check_model(network)
        return network


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
            f"its code. If you trust it, add --classifier {self.target}, in transfer the model "
            f"{self.target}=WEIGHTS, or in Python call "
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
    parameters, _ = _signature(named)
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind in _NEEDED]
    if len(needed) == 1 and needed != ["shape"] and not isinstance(named, type):
        return named
    return _called(target, {"shape": shape})


def _signature(function: Callable[..., Any]) -> tuple[Mapping[str, inspect.Parameter], str]:
    """The parameters of a function, and their text; none if Python does not know them."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return {}, "()"
    return signature.parameters, str(signature)


def _called(target: str, offered: dict[str, Any]) -> Any:
    """The result of a function, called with the arguments on offer that it takes."""
    function = _imported(target)
    if isinstance(function, nn.Module):
        raise ValueError(
            f"{target} is a network; name the function or class that builds it, as in "
            f"def build(): return {target.rpartition(':')[2]}"
        )
    parameters, signature = _signature(function)
    arguments = {k: v for k, v in offered.items() if k in parameters}
    needed = [p for p in parameters.values() if p.default is p.empty and p.kind in _NEEDED]
    if missing := [p.name for p in needed if p.name not in arguments]:
        raise ValueError(
            f"{target}{signature} cannot be called (missing a required argument: {missing[0]!r}); "
            f"its parameters may be {' and '.join(offered)}, and others only with defaults"
        )
    return foreign.call(function, **arguments, lead=f"{target} failed")


def _imported(target: str) -> Callable[..., Any]:
    module_name, _, attribute = target.partition(":")
    _check_names(target)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # only now: a file there must not pass for an optional package
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise ValueError(
            f"{module_name} could not be imported ({foreign.cause(error)}); install it, or put "
            "its folder on PYTHONPATH"
        ) from error
    except SystemExit as error:
        raise ValueError(
            f"{module_name} ends the program when it is imported ({foreign.cause(error)}); put "
            "what only a script does under if __name__ == '__main__'"
        ) from error
    except Exception as error:
        raise ValueError(f"{module_name} failed at import: {foreign.cause(error)}") from error
    function: Callable[..., Any] | None = getattr(module, attribute, None)
    if function is None or not callable(function):
        own = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and callable(value)
            and getattr(value, "__module__", "") == module.__name__
        ]
        raise ValueError(
            f"{module_name} has no function {attribute!r}; it has {', '.join(own) or 'none'}"
        )
    return function


def _check_names(target: str) -> None:
    """Raise unless both parts of ``package.module:function`` are names in Python.

    Raises:
        ValueError: Says what to write, also for the path of a file.
    """
    module_name, _, attribute = target.partition(":")
    if module_name.endswith(".py") or "/" in module_name or "\\" in module_name:
        path = PurePath(module_name).with_suffix("")
        raise ValueError(
            f"{module_name} is the path of a file; put its folder on PYTHONPATH, as in "
            f"PYTHONPATH={path.parent}, and write {path.name}:{attribute or 'function'}"
        )
    parts = [*module_name.split("."), attribute]
    if not all(part.isidentifier() for part in parts):
        raise ValueError(f"write package.module:function, got {target}")
