"""The global names that the code of a function reads, and their values."""

from __future__ import annotations

import builtins
import dis
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from spearshield.storage.installed import version_of

DYNAMIC = ("eval", "exec", "globals", "open", "input", "__import__", "compile")
"""Builtin functions that read what no name in the code shows."""


class Read(NamedTuple):
    """The global names of a function.

    Args:
        names: All names in its code: of globals, attributes and imported modules. ``None``: it
            also reads attributes whose names it computes.
        values: The value of each name that is a global or an imported module.
        dynamic: True if the function may read what its names do not show.
    """

    names: frozenset[str] | None
    values: dict[str, Any]
    dynamic: bool


def names_read(function: FunctionType) -> Read:
    """The global names that a function and the functions inside it read."""
    codes = [*_nested(function.__code__)]
    names = frozenset(name for code in codes for name in code.co_names)
    known = function.__globals__
    values = {name: known[name] for name in sorted(names) if name in known}
    missing = False
    for target in sorted({target for code in codes for target in _imports(code)}):
        module = _loaded(target, str(known.get("__package__") or ""))
        if module is not None:
            values[f"import {target}"] = module
        elif version_of(target) is None:
            missing = True  # imported by the first call only
    builtin = {name for name in names - values.keys() if hasattr(builtins, name)}
    shown = None if "getattr" in builtin else names
    return Read(shown, values, missing or bool(builtin.intersection(DYNAMIC)))


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _imports(code: CodeType) -> Iterator[str]:
    """The names of the modules that the code imports when it runs."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            yield str(instruction.argval)


def _loaded(target: str, package: str) -> ModuleType | None:
    """The module of an import statement, absolute or in ``package``; ``None``: not loaded."""
    inside = resolve_name(f".{target}", package) if package else target
    return sys.modules.get(target) or sys.modules.get(inside)
