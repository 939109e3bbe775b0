"""One's own network, by the function that builds it: ``package.module:function``.

Written like Python's entry points,
https://packaging.python.org/en/latest/specifications/entry-points/.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from spearshield.architecture import Architecture
from spearshield.nets import external
from spearshield.types import Shape


@dataclass(frozen=True)
class User(Architecture):
    """A network that takes images in [0, 1] and returns logits, from any importable function.

    The function may also be an ``nn.Module`` class. If it has parameters named ``shape`` (channels,
    height, width) and ``classes``, it is given them; any other parameter needs a default.

    Args:
        target: ``package.module:function``.

    Raises:
        ValueError: From ``build``: the function cannot be imported or called so, or does not
            return an ``nn.Module`` that fits images and classes.
    """

    target: str

    def build(self, shape: Shape, classes: int) -> nn.Module:
        function = _imported(self.target)
        signature = inspect.signature(function)
        offered = {"shape": shape, "classes": classes}
        arguments = {k: v for k, v in offered.items() if k in signature.parameters}
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise ValueError(
                f"{self.target}{signature} cannot be called ({error}); its parameters may be "
                "shape and classes, and others only with defaults"
            ) from error
        network = function(**arguments)
        if not isinstance(network, nn.Module):
            raise ValueError(
                f"{self.target} must return a torch.nn.Module, it returned "
                f"{type(network).__name__}; name the function or class that builds the network"
            )
        return external.fitted(network, shape, classes, self.target)


def _imported(target: str) -> Callable[..., Any]:
    module_name, _, attribute = target.partition(":")
    if not (module_name and attribute):
        raise ValueError(f"write package.module:function, got {target!r}")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise ValueError(
            f"{module_name} could not be imported ({external.reason(error)}); install it, or put "
            "its folder on PYTHONPATH"
        ) from error
    function: Callable[..., Any] | None = getattr(module, attribute, None)
    if function is None or not callable(function):
        own = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise ValueError(
            f"{module_name} has no function {attribute!r}; it has {', '.join(own) or 'none'}"
        )
    return function
