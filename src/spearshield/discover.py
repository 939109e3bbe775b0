"""Find methods, attacks, classifiers, data sets and recipes by the file they live in.

The name of a thing is the name of its file. There is no list to extend.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

Thing = TypeVar("Thing")

PACKAGES = {
    "methods": "spearshield.methods",
    "attacks": "spearshield.attacks",
    "classifiers": "spearshield.classifiers",
    "datasets": "spearshield.datasets",
    "recipes": "spearshield.recipes",
}
"""Each kind of thing, and the package whose files are the things of that kind."""


@cache
def names(kind: str) -> dict[str, str]:
    """The names of one kind, each with the first line of its file's docstring; imports nothing."""
    spec = importlib.util.find_spec(PACKAGES[kind])
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    found = {}
    for info in pkgutil.iter_modules([str(folder)]):
        source = (folder / f"{info.name}.py").read_text(encoding="utf-8")
        doc = ast.get_docstring(ast.parse(source)) or ""
        found[info.name] = doc.partition("\n")[0]
    return found


def load(kind: str, name: str) -> ModuleType:
    """The module behind a name.

    Raises:
        ValueError: No such name; the message lists those there are.
    """
    if name not in names(kind):
        raise ValueError(f"no {name!r} in {kind}; there are {', '.join(names(kind))}")
    return importlib.import_module(f"{PACKAGES[kind]}.{name}")


def find(kind: str, base: type[Thing], name: str) -> type[Thing]:
    """The one concrete ``base`` that the file ``name`` defines.

    Raises:
        ValueError: No such name; the message lists those there are.
        TypeError: The file defines none, or more than one.
    """
    module = load(kind, name)
    own = [
        member
        for member in vars(module).values()
        if inspect.isclass(member)
        and member.__module__ == module.__name__
        and issubclass(member, base)
        and not inspect.isabstract(member)
    ]
    if len(own) != 1:
        raise TypeError(f"{module.__name__} must define one {base.__name__}, it defines {own}")
    return own[0]


def discover(kind: str, base: type[Thing]) -> dict[str, type[Thing]]:
    """Map every name of one kind to the class its file defines."""
    return {name: find(kind, base, name) for name in names(kind)}


def name_of(thing: object) -> str:
    """An instance's ``display_name``, or else the name of the file that its class lives in."""
    display_name: str = (
        getattr(thing, "display_name", "") or type(thing).__module__.rpartition(".")[2]
    )
    return display_name
