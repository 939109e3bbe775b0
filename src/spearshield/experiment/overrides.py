"""Overrides: changes of fields of a recipe, or of any frozen value, by dotted name and text."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin

from spearshield import discover
from spearshield.adversary import Attack
from spearshield.architecture import Architecture
from spearshield.classifiers import architecture
from spearshield.dataset import Dataset
from spearshield.datasets import dataset
from spearshield.experiment.recipe import Recipe, references
from spearshield.judging.trial import Trial
from spearshield.method import Method
from spearshield.spelling import closest, known, number, whole
from spearshield.training.loop import Training
from spearshield.views import View


def override(value: Any, path: str, text: str) -> Any:
    """A copy of ``value`` with the field at the dotted ``path`` set to the value of ``text``.

    In a tuple, a step of the path is a position or the name of an element: ``defences.ape_gan`` is
    the training with this name. A method, attack, classifier, data set or view is set by its name,
    and gets default settings. A field of a value that is ``None`` is set in the value with default
    settings: ``augmentation.shift=2``. If a defence is removed, the trials of its attack, and of
    attacks on it that are transferred, are removed as well.

    Raises:
        ValueError: There is no such field (lists the fields), or ``text`` does not fit it.
    """
    name, dot, rest = path.partition(".")
    if not name or (dot and not rest):
        raise ValueError(f"{path!r} is not a field; write FIELD.SUB=VALUE")
    if isinstance(value, tuple):
        i = _position(value, name)
        return (
            *value[:i],
            override(value[i], rest, text) if rest else _refuse(path),
            *value[i + 1 :],
        )
    if not is_dataclass(value):
        raise ValueError(f"the value {value!r} has no fields, so no {path!r}")
    own = [f.name for f in fields(value)]
    if name not in own:
        raise ValueError(f"no field {name!r} in {type(value).__name__}; {closest(name, own)}")
    old = getattr(value, name)
    hint = hints(type(value))[name]
    if old is None and rest:
        old = _unset(hint, name)
    new = override(old, rest, text) if rest else parse(text, hint, old, name)
    changed = replace(value, **{name: new})  # type: ignore[type-var]
    if isinstance(changed, Recipe) and name == "defences" and not rest:
        return _without_trials_of(old, changed)
    return changed


def _without_trials_of(old: tuple[Training, ...], recipe: Recipe) -> Recipe:
    """The recipe without the trials of attacks of ``old`` defences that it no longer has."""
    gone = {training.display_name for training in old} - {t.display_name for t in recipe.defences}
    return replace(
        recipe,
        trials=tuple(trial for trial in recipe.trials if gone.isdisjoint(references(trial.attack))),
    )


def hints(kind: Any) -> dict[str, Any]:
    """The types of the fields of a dataclass."""
    return typing.get_type_hints(kind)


def parse(text: str, hint: Any, old: Any, name: str) -> Any:
    """``text`` as a value of the type ``hint``, in place of ``old`` in the field ``name``.

    Raises:
        ValueError: ``text`` does not fit the type; names the allowed values.
    """
    if get_origin(hint) in (types.UnionType, typing.Union):
        if text.lower() == "none" and type(None) in get_args(hint):
            return None
        hint = _kind(hint)
    if get_origin(hint) is Literal:
        return known(text, get_args(hint), name)
    if hint is bool:
        return known(text, ("true", "false"), name) == "true"
    if hint in SCALARS:
        try:
            return SCALARS[hint](text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if get_origin(hint) is tuple:
        return _parse_tuple(text, get_args(hint), old, name)
    if hint is Architecture:
        return architecture(text)
    if hint is Dataset:
        return dataset(text)
    if isinstance(hint, type) and issubclass(hint, View):
        return view(text)
    for kind, base in KINDS.items():
        if isinstance(hint, type) and issubclass(hint, base):
            return _default(_find(kind, hint, text, name), old)
    raise ValueError(
        f"{name} cannot be set as a whole; set one of its fields, as {name}.FIELD=VALUE"
    )


def _kind(hint: Any) -> Any:
    """The type of an optional field where it is not ``None``."""
    return next((kind for kind in get_args(hint) if kind is not type(None)), hint)


def _unset(hint: Any, name: str) -> Any:
    """The value with default settings of a field that is ``None``."""
    kind = _kind(hint)
    if not isinstance(kind, type) or not is_dataclass(kind) or kind in KINDS.values():
        raise ValueError(f"{name} is None, which has no fields; set it in a recipe file")
    return _default(kind, None)


SCALARS: dict[type, Callable[[str], Any]] = {int: whole, float: number, str: str}
"""How the text of a value is read, by the type of its field."""

KINDS: dict[str, type] = {"methods": Method, "attacks": Attack}


def _find(kind: str, hint: type, text: str, name: str) -> type:
    """The class that ``text`` names, which must be a ``hint``."""
    found: type = discover.find(kind, KINDS[kind], text)
    if not issubclass(found, hint):
        raise ValueError(f"{name} must be a {hint.__name__}, and {text} is not")
    return found


def _default(kind: type, old: Any) -> Any:
    """A value of ``kind`` with default settings; ``old`` gives the fields without default."""
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in needed if not hasattr(old, name)]:
        raise ValueError(
            f"{kind.__name__} needs {missing[0]}, which the old value {old!r} does not have; "
            "set it in a recipe file"
        )
    return kind(**{name: getattr(old, name) for name in needed})


def view(text: str) -> View:
    """The view of a name, which may contain its settings: ``eot``, ``eot(10)``, ``eot(10, bpda)``.

    Raises:
        ValueError: There is no such view or setting; the message lists the names.
    """
    kinds = {kind.cli_name(): kind for kind in View.__subclasses__()}
    parts = re.fullmatch(r"([^()]*)(?:\((.*)\))?", text.strip())
    if parts is None:
        raise ValueError(f"no view {text!r}; write a name, or a name with a setting, as eot(10)")
    name, inner = parts.groups()
    kind = kinds[known(name, kinds, "view")]
    settings = [] if inner is None else re.split(r",(?![^()]*\))", inner)
    own = [field.name for field in fields(kind)]
    if len(settings) > len(own):
        more = f" beyond {', '.join(own)}" if own else ""
        raise ValueError(f"view {name} has no setting{more}, got {text!r}")
    types = hints(kind)
    return kind(**{n: _setting(s, types[n], n) for n, s in zip(own, settings, strict=False)})


def _setting(text: str, hint: Any, name: str) -> Any:
    """A setting of a view, which may itself be a view."""
    kinds = [kind for kind in get_args(hint) if isinstance(kind, type) and issubclass(kind, View)]
    if not kinds:
        return parse(text, hint, None, name)
    inner = view(text)
    if not isinstance(inner, tuple(kinds)):
        names = " or ".join(kind.cli_name() for kind in kinds)
        raise ValueError(f"{name} must be {names}, got {text.strip()!r}")
    return inner


def _parse_tuple(text: str, inner: tuple[Any, ...], old: Any, name: str) -> tuple[Any, ...]:
    """Comma-separated text as a tuple of numbers, strings, architectures or trainings."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if inner[0] is Training:
        named = {discover.name_of(t): t for t in old}
        return tuple(named[known(part, named, name)] for part in parts)
    if inner[0] not in (*SCALARS, Architecture):
        raise ValueError(
            f"{name} cannot be set as a whole; set one of its parts, as {name}.0.FIELD"
        )
    return tuple(parse(part, inner[0], None, name) for part in parts)


def _position(value: tuple[Any, ...], name: str) -> int:
    """The position of an element, given the position or the name of the element."""
    names = [element_name(v) for v in value]
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(value):
        return int(name)
    choices = [f"{n} (or {i})" for i, n in enumerate(names)]
    raise ValueError(f"no element {name!r}; {closest(name, choices)}")


def element_name(element: Any) -> str:
    """The name of an element of a tuple in a path; the name of a trial is its attack and view."""
    if isinstance(element, Trial):
        return f"{discover.name_of(element.attack)}-{element.view}"
    return discover.name_of(element)


def _refuse(path: str) -> Any:
    raise ValueError(f"{path} is a whole element; set one of its fields, as {path}.FIELD=VALUE")
