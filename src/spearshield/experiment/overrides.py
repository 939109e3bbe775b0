"""Overrides: changes of fields of a recipe, or of any frozen value, by dotted name and text."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin

from spearshield import discover
from spearshield.adversary import Attack
from spearshield.architecture import Architecture
from spearshield.classifiers import architecture
from spearshield.dataset import Dataset
from spearshield.datasets import dataset
from spearshield.experiment.recipe import Recipe
from spearshield.judging.trial import Trial
from spearshield.method import Method
from spearshield.training.learned_attack import AttackFrom
from spearshield.training.loop import Training
from spearshield.views import View


def override(value: Any, path: str, text: str) -> Any:
    """A copy of ``value`` with the field at the dotted ``path`` set to the value of ``text``.

    In a tuple, a step of the path is a position or the name of an element: ``defences.ape_gan`` is
    the training of that name. The text of a method, attack, classifier, data set or view is its
    name, and the new value has default settings. If a defence is removed, so are the trials of its
    learned attack.

    Raises:
        ValueError: There is no such field (lists the fields), or ``text`` is not a value of it.
    """
    name, _, rest = path.partition(".")
    if isinstance(value, tuple):
        i = _position(value, name)
        return (
            *value[:i],
            override(value[i], rest, text) if rest else _refuse(path),
            *value[i + 1 :],
        )
    if not is_dataclass(value):
        raise ValueError(f"{value!r} has no fields, so no {path!r}")
    known = [f.name for f in fields(value)]
    if name not in known:
        raise ValueError(
            f"no field {name!r} in {type(value).__name__}; it has {', '.join(known) or 'none'}"
        )
    old = getattr(value, name)
    hint = hints(type(value))[name]
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
        trials=tuple(
            trial
            for trial in recipe.trials
            if not (isinstance(trial.attack, AttackFrom) and trial.attack.training in gone)
        ),
    )


def hints(kind: Any) -> dict[str, Any]:
    """The types of a value's fields."""
    return typing.get_type_hints(kind)


def parse(text: str, hint: Any, old: Any, name: str) -> Any:
    """``text`` as a value of the type ``hint``, in place of ``old`` in the field ``name``.

    Raises:
        ValueError: It is not such a value; names the allowed ones.
    """
    if get_origin(hint) in (types.UnionType, typing.Union):
        if text.lower() == "none" and type(None) in get_args(hint):
            return None
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    if get_origin(hint) is Literal:
        return _one_of(text, get_args(hint), name)
    if hint is bool:
        return _one_of(text.lower(), ("true", "false"), name) == "true"
    if hint in (int, float, str):
        try:
            return hint(text)
        except ValueError:
            raise ValueError(f"{name} takes {hint.__name__}, got {text!r}") from None
    if get_origin(hint) is tuple:
        return _parse_tuple(text, get_args(hint), old, name)
    if hint is Architecture:
        return architecture(text)
    if hint is Dataset:
        return dataset(text)
    if isinstance(hint, type) and issubclass(hint, View):
        return view(text)
    for kind, base in KINDS.items():
        if hint is base:
            return _default(discover.find(kind, base, text), old)
    raise ValueError(
        f"{name} cannot be set as a whole; set one of its fields, as {name}.FIELD=VALUE"
    )


KINDS: dict[str, type] = {"methods": Method, "attacks": Attack}


def _default(kind: type, old: Any) -> Any:
    """A value of ``kind`` with default settings; fields without default are those of ``old``."""
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in needed if not hasattr(old, name)]:
        raise ValueError(
            f"{kind.__name__} needs {missing[0]}, which the old value {old!r} does not have; "
            "set it in a recipe file"
        )
    return kind(**{name: getattr(old, name) for name in needed})


def view(text: str) -> View:
    """The view of a name, which may state its setting: ``eot``, ``eot(10)``.

    Raises:
        ValueError: No such name, or no such setting; the message lists the names.
    """
    kinds = {kind.cli_name(): kind for kind in View.__subclasses__()}
    name, opened, setting = text.lower().removesuffix(")").partition("(")
    kind = kinds[_one_of(name, tuple(kinds), "view")]
    if not opened:
        return kind()
    own = [field.name for field in fields(kind)]
    if len(own) != 1:
        raise ValueError(f"view {name} has no setting, got {text!r}")
    return kind(**{own[0]: parse(setting, hints(kind)[own[0]], None, own[0])})


def _parse_tuple(text: str, inner: tuple[Any, ...], old: Any, name: str) -> tuple[Any, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if inner[0] is Training:
        named = {discover.name_of(t): t for t in old}
        return tuple(named[_one_of(part, tuple(named), name)] for part in parts)
    if inner[0] not in (int, float, str):
        raise ValueError(
            f"{name} cannot be set as a whole; set one of its parts, as {name}.0.FIELD"
        )
    return tuple(parse(part, inner[0], None, name) for part in parts)


def _one_of(text: str, allowed: tuple[str, ...], name: str) -> str:
    if text not in allowed:
        raise ValueError(f"{name} is one of {', '.join(allowed)}; got {text!r}")
    return text


def _position(value: tuple[Any, ...], name: str) -> int:
    names = [element_name(v) for v in value]
    if name in names:
        return names.index(name)
    if name.isdigit() and int(name) < len(value):
        return int(name)
    choices = [f"{i} ({n})" for i, n in enumerate(names)]
    raise ValueError(f"no element {name!r}; there are {', '.join(choices) or 'none'}")


def element_name(element: Any) -> str:
    """The name of an element of a tuple in a path: of a trial, its attack and view."""
    if isinstance(element, Trial):
        return f"{discover.name_of(element.attack)}-{element.view}"
    return discover.name_of(element)


def _refuse(path: str) -> Any:
    raise ValueError(f"{path} is a whole element; set one of its fields, as {path}.FIELD=VALUE")
