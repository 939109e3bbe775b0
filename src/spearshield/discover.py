"""Finds methods, attacks, classifiers, data sets and recipes by name, without importing torch.

A file of ``spearshield.methods`` is a method, and the name of the file is the name of the method;
the other kinds likewise. An installed package adds its own under the entry point group of the kind,
such as::

    [project.entry-points."spearshield.attacks"]
    my_pgd = "my_package.my_pgd"          # a module that defines one attack, or
    my_fgsm = "my_package.attacks:MyFGSM"   # a class

A recipe's module defines ``RECIPE``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from spearshield.spelling import closest, known

Thing = TypeVar("Thing")

PACKAGES = {
    "methods": "spearshield.methods",
    "attacks": "spearshield.attacks",
    "classifiers": "spearshield.classifiers",
    "datasets": "spearshield.datasets",
    "recipes": "spearshield.recipes",
}
"""The package of each kind. It is also the name of the kind's entry point group."""

SINGULAR = {
    "methods": "method",
    "attacks": "attack",
    "classifiers": "classifier",
    "datasets": "data set, folder or npz file",
    "recipes": "recipe",
}
"""One of each kind, in messages."""


@cache
def registered(kind: str) -> dict[str, EntryPoint]:
    """The entry points of one kind by name: the files of the package, then installed packages.

    Raises:
        ValueError: Two entry points have the same name; names both.
    """
    package = PACKAGES[kind]
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    files = pkgutil.iter_modules(spec.submodule_search_locations)
    found = {file.name: EntryPoint(file.name, f"{package}.{file.name}", package) for file in files}
    for entry in dict.fromkeys(entry_points(group=package)):
        if entry.name in found:
            raise ValueError(
                f"two {kind} are called {entry.name!r}: {found[entry.name].value} and "
                f"{entry.value}; rename the entry point of the installed package, or remove it"
            )
        found[entry.name] = entry
    return found


@cache
def names(kind: str) -> dict[str, str]:
    """The names of one kind, each with the first line of its docstring; no module is imported."""
    return {name: _summary(entry) for name, entry in registered(kind).items()}


def canonical(kind: str, name: str) -> str:
    """The name that ``name`` means, in another case or with ``-`` for ``_``: ``pgd`` of ``PGD``.

    Raises:
        ValueError: No such name; the message lists the closest names.
    """
    return known(name, registered(kind), SINGULAR[kind])


def load(kind: str, name: str) -> ModuleType:
    """The module of a name.

    Raises:
        ValueError: No such name; the message lists the closest names.
    """
    return importlib.import_module(registered(kind)[canonical(kind, name)].module)


def find(kind: str, base: type[Thing], name: str) -> type[Thing]:
    """The class of a name: a concrete subclass of ``base``.

    Raises:
        ValueError: No such name; the message lists the closest names.
        TypeError: The module defines no such class, or more than one.
    """
    module, entry = load(kind, name), registered(kind)[canonical(kind, name)]
    classes = [getattr(module, entry.attr, None)] if entry.attr else _classes_of(module)
    own = [c for c in classes if inspect.isclass(c) and issubclass(c, base)]
    own = [c for c in own if not inspect.isabstract(c)]
    if len(own) != 1:
        raise TypeError(f"{entry.value} must define one {base.__name__}, it defines {own}")
    return own[0]


def discover(kind: str, base: type[Thing]) -> dict[str, type[Thing]]:
    """The classes of one kind by name."""
    return {name: find(kind, base, name) for name in names(kind)}


def classes_of(kind: str) -> dict[str, str]:
    """The public classes of one kind, each with the name of its file; no module is imported."""
    found: dict[str, str] = {}
    for name in registered(kind):
        tree = parsed(registered(kind)[name].module)
        for node in tree.body if tree else []:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, name)
    return found


def lazy_classes(kind: str) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that imports the classes of one kind when they are first used."""

    def get(attribute: str) -> Any:
        found = {} if attribute.startswith("_") else classes_of(kind)
        if attribute in found:
            return getattr(load(kind, found[attribute]), attribute)
        near = f"; {closest(attribute, found)}" if not attribute.startswith("_") else ""
        raise AttributeError(f"module {PACKAGES[kind]!r} has no attribute {attribute!r}{near}")

    return get


def lazy_dir(kind: str) -> Callable[[], list[str]]:
    """A module's ``__dir__`` that lists the classes of one kind; no module is imported."""
    return lambda: sorted(classes_of(kind))


def name_of(thing: object) -> str:
    """The ``display_name`` of an instance, or else the name under which its class is found."""
    display_name: str = getattr(thing, "display_name", "")
    module, own = type(thing).__module__, type(thing).__qualname__
    found = (_names_by_value().get(value) for value in (f"{module}:{own}", module))
    return display_name or next(filter(None, found), module.rpartition(".")[2])


def is_registered_module(module: str) -> bool:
    """True for a module of this package, and for a module that an entry point names."""
    if module.startswith("spearshield."):
        return "__main__" not in module
    return any(entry.module == module for kind in PACKAGES for entry in registered(kind).values())


@cache
def _names_by_value() -> dict[str, str]:
    """The name of each entry point, by the module or ``module:Class`` that it refers to."""
    entries = [entry for kind in PACKAGES for entry in registered(kind).values()]
    return {entry.value: entry.name for entry in entries}


def _classes_of(module: ModuleType) -> list[type]:
    """The classes that a module defines itself."""
    classes = [member for member in vars(module).values() if inspect.isclass(member)]
    return [c for c in classes if c.__module__ == module.__name__]


def _summary(entry: EntryPoint) -> str:
    """The first line of the docstring of an entry point's class, or else of its module."""
    tree = parsed(entry.module) if entry.attr else _opening(entry.module)
    if tree is None:
        return ""
    classes = [c for c in tree.body if isinstance(c, ast.ClassDef) and c.name == entry.attr]
    documented: list[ast.ClassDef | ast.Module] = [*classes, tree]
    docs = filter(None, map(ast.get_docstring, documented))
    return next(docs, "").partition("\n")[0]


def _opening(module: str) -> ast.Module | None:
    """The syntax tree of a module up to its docstring, which takes far less time."""
    path = _source(module)
    before, quote, after = (path.read_text(encoding="utf-8") if path else "").partition('"""')
    docstring, end, _ = after.partition('"""')
    try:
        return ast.parse(before + quote + docstring + end)
    except SyntaxError:  # the first triple quotes are in the middle of something else
        return parsed(module)


@cache
def parsed(module: str) -> ast.Module | None:
    """The syntax tree of a module, which is not imported; ``None`` if it has no source file."""
    path = _source(module)
    return ast.parse(path.read_text(encoding="utf-8")) if path else None


def _source(module: str) -> Path | None:
    """The source file of a module, found without importing it or a package that holds it."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not spec.submodule_search_locations:
        return Path(spec.origin) if spec.origin and not rest else None
    places = [Path(place, *rest) for place in spec.submodule_search_locations]
    files = [file for p in places for file in (p.with_suffix(".py"), p / "__init__.py")]
    return next((file for file in files if file.is_file()), None)
