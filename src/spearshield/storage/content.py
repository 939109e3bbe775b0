"""The content of any Python object as a digest: its values, its code and all that they refer to.

Objects with equal digests compute the same. The digest covers attributes, tensors, arrays, hooks,
closures, defaults, and the code of functions and classes together with the global names that it
reads. Code of installed packages enters by name and version. An object whose content cannot be
determined, such as an open file, gets a digest that never occurs again.
"""

from __future__ import annotations

import copyreg
import functools
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from secrets import token_bytes
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    NoneType,
    WrapperDescriptorType,
)
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from spearshield.storage.digest import digest, weights_digest
from spearshield.storage.installed import version_of
from spearshield.storage.names import names_read

Part: TypeAlias = "str | bytes | Tensor"

_ATOMS = (NoneType, bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_BUILTIN = (BuiltinFunctionType, MethodWrapperType, MethodDescriptorType, WrapperDescriptorType)
_NAMED = (MemberDescriptorType, GetSetDescriptorType, torch.layout, torch.memory_format)
_EMPTY = (type(threading.Lock()), type(threading.RLock()), RemovableHandle)
"""Types of objects that no result depends on."""

_SCRIPTS = (torch.jit.ScriptModule, torch.jit.ScriptFunction)

_UNREAD = {
    *("__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__orig_bases__"),
    *("__dataclass_fields__", "__abstractmethods__", "_abc_impl", "__parameters__"),
    *("__slotnames__",),  # added by the first reduction of an instance
    *("__static_attributes__", "__firstlineno__", "__annotate__", "__annotations_cache__"),
}
"""Attributes of a class that do not change what its instances compute."""


class Content(NamedTuple):
    """The digest of an object.

    Args:
        sha256: 64 hexadecimal digits.
        unknown: The types of the objects without a determined content. If there is one, ``sha256``
            never occurs again.
    """

    sha256: str
    unknown: tuple[str, ...]


def content(value: Any, *, versions: bool = True, modes: bool = True) -> Content:
    """The content of an object. Neither device, memory format nor gradients of tensors matter.

    Args:
        versions: If false, the versions of installed packages do not count.
        modes: If false, every layer counts as in evaluation mode.
    """
    reader = _Reader(versions, modes)
    return Content(reader.digest(value), tuple(reader.unknown))


def network_digest(network: nn.Module) -> str:
    """The digest of everything that determines the output of ``network`` in evaluation mode."""
    return content(network, modes=False).sha256


def lasting_digest(network: nn.Module) -> str:
    """The digest of a network whatever the versions of installed packages.

    Where its content cannot be determined, the digest of its weights.
    """
    found = content(network, versions=False, modes=False)
    return weights_digest(network) if found.unknown else found.sha256


class _Reader:
    """The digests of the objects that one object refers to."""

    def __init__(self, versions: bool, modes: bool) -> None:
        self.versions, self.modes = versions, modes
        self.unknown: list[str] = []
        self._done: dict[int, str] = {}
        self._open: dict[int, int] = {}
        self._kept: list[Any] = []  # an id is unique only while its object is alive

    def digest(self, value: Any) -> str:
        """The digest of one object, computed once. A reference to an outer object is its level."""
        if type(value) in _ATOMS:
            return digest(type(value).__name__, repr(value))
        key = id(value)
        if key in self._open:
            return digest("outer", str(len(self._open) - self._open[key]))
        if key not in self._done:
            self._kept.append(value)
            self._open[key] = len(self._open)
            try:
                self._done[key] = digest(*self._parts(value))
            except Exception:  # noqa: BLE001 - from the code of any type
                self._done[key] = digest(*self._undetermined(value))
            del self._open[key]
        return self._done[key]

    def _parts(self, value: Any) -> list[Part]:
        """The parts of the digest of an object, by its type."""
        readers: Sequence[tuple[Any, Callable[[Any], list[Part]]]] = (
            (Tensor, lambda tensor: [type(tensor).__name__, tensor]),
            ((np.ndarray, np.generic), self._array),
            (FunctionType, self._function),
            (CodeType, self._code),
            (type, self._class),
            (ModuleType, lambda module: self._module(module, None)),
            (_EMPTY, lambda _: ["empty"]),
            ((*_NAMED, *_BUILTIN), self._builtin),
            (_SCRIPTS, lambda script: ["script", script.save_to_buffer(_extra_files={})]),
            (object, self._instance),
        )
        return next(read(value) for kinds, read in readers if isinstance(value, kinds))

    def _instance(self, value: Any) -> list[Part]:
        """The class of an instance and all that it refers to."""
        kind = self.digest(type(value))
        if isinstance(value, nn.Module):
            return [kind, self.digest(_attributes(value, self.modes))]
        for kinds, references in _REFERENCES:
            if isinstance(value, kinds):
                return [kind, *map(self.digest, references(value))]
        own = [self.digest(vars(value))] if hasattr(value, "__dict__") else []
        if isinstance(value, (set, frozenset)):
            return [kind, *own, *sorted(map(self.digest, value))]
        items = _items(value)
        parts = self._reduced(value) if items is None else map(self.digest, items)
        return [kind, *own, *parts]

    def _reduced(self, value: Any) -> list[Part]:
        """The references of an object as pickle finds them, also inside types written in C."""
        reduce = copyreg.dispatch_table.get(type(value))
        try:
            found = reduce(value) if reduce else value.__reduce_ex__(2)
        except Exception:  # noqa: BLE001 - from the code of any type
            return [*self._undetermined(value)]
        if isinstance(found, str):
            return [found]
        function, arguments, *rest = found
        state, *items = (*rest, None, None, None)[:3]
        more = [list(part) for part in items if part is not None]
        return [*map(self.digest, (function, arguments, state, *more))]

    def _version(self, module: str) -> str | None:
        """The version of installed code, empty if versions do not count; ``None``: user's code."""
        version = version_of(module)
        return version if self.versions or version is None else ""

    def _undetermined(self, value: Any) -> tuple[str, bytes]:
        self.unknown.append(type(value).__qualname__)
        return type(value).__qualname__, token_bytes(32)

    def _array(self, value: Any) -> list[Part]:
        plain = value.tolist() if value.dtype.hasobject else value.tobytes()
        return ["array", str(value.dtype), str(value.shape), self.digest(plain)]

    def _builtin(self, value: Any) -> list[Part]:
        name = getattr(value, "__qualname__", None) or str(value)
        bound = getattr(value, "__self__", None)
        holder = None if isinstance(bound, ModuleType) else self.digest(bound)
        return ["builtin", str(getattr(value, "__module__", None)), name, holder or ""]

    def _function(self, value: FunctionType) -> list[Part]:
        """Code, captured values, defaults, attributes, and the global names that the code reads."""
        module = str(value.__globals__.get("__name__"))
        cells = [_inside(cell) for cell in value.__closure__ or ()]
        state = [value.__code__, cells, value.__defaults__, value.__kwdefaults__, vars(value)]
        parts: list[Part] = ["function", *map(self.digest, state)]
        version = self._version(module)
        if version is not None:
            return [*parts, module, value.__qualname__, version]
        read = names_read(value)
        if read.dynamic:
            parts += self._undetermined(value)
        for name, found in read.values.items():
            parts += [name, *self._named(found, read.names)]
        return parts

    def _named(self, value: Any, names: frozenset[str] | None) -> list[Part]:
        """The value of a global name; of a module, only the attributes that the code names."""
        if isinstance(value, ModuleType) and names is not None:
            return self._module(value, names)
        return [self.digest(value)]

    def _module(self, value: ModuleType, names: frozenset[str] | None) -> list[Part]:
        """A module: by version if it is installed, else the values of some or all of its names."""
        version = self._version(value.__name__)
        parts: list[Part] = ["module", value.__name__, version or ""]
        if version is not None or (names is not None and id(value) in self._open):
            return parts
        self._open.setdefault(id(value), len(self._open))
        for name, found in sorted(vars(value).items()):
            if not name.startswith("__") and (names is None or name in names):
                parts += [name, *self._named(found, names)]
        if names is not None:
            del self._open[id(value)]
        return parts

    def _class(self, value: type) -> list[Part]:
        """A class: by version if it is installed, else its bases and members."""
        name = f"{value.__module__}:{value.__qualname__}"
        version = self._version(value.__module__)
        if version is not None:
            return ["class", name, version]
        members = {k: v for k, v in sorted(vars(value).items()) if k not in _UNREAD}
        return ["class", name, *map(self.digest, (value.__bases__, type(value), members))]

    def _code(self, value: CodeType) -> list[Part]:
        """The instructions of a function and their constants, without names of files and lines."""
        shape = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount)
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        handlers = getattr(value, "co_exceptiontable", b"")
        rest = (value.co_consts, value.co_flags, handlers, *shape, *names)
        return ["code", value.co_code, *map(self.digest, rest)]


_HOOKS = frozenset(name for name, value in vars(nn.Module()).items() if "_hooks" in name)
"""The attributes of a layer that hold hooks by running numbers."""


def _attributes(module: nn.Module, modes: bool) -> dict[str, Any]:
    """The attributes of a layer, with or without its mode; hooks without their numbers."""
    own = {name: value for name, value in vars(module).items() if modes or name != "training"}
    hooks = {name: list(own[name].values()) for name in _HOOKS & own.keys() if own[name]}
    return dict(sorted((own | hooks).items()))


_REFERENCES: tuple[tuple[Any, Callable[[Any], list[Any]]], ...] = (
    (MethodType, lambda method: [method.__func__, method.__self__]),
    (functools.partial, lambda call: [call.func, call.args, call.keywords, vars(call)]),
    (weakref.ref, lambda reference: [reference()]),
    ((staticmethod, classmethod), lambda method: [method.__func__]),
    (property, lambda found: [found.fget, found.fset, found.fdel]),
    (logging.Logger, lambda logger: [logger.name]),
)
"""The references of the instances of some types; of all others, their attributes and content."""


def _items(value: Any) -> list[Any] | None:
    """The items of a container in order; ``None`` for other objects."""
    if isinstance(value, (dict, MappingProxyType)):
        return [part for item in value.items() for part in item]
    return [*value] if isinstance(value, (list, tuple, deque)) else None


def _inside(cell: Any) -> Any:
    """The value of a captured variable; its name for one that is not assigned yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return "unassigned"
