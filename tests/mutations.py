"""Mutations: faults in the code that the decorated test must detect.

::

    @fails_under("no-op projection", (Linf, "clip", lambda self, delta: delta), attack=PGD(BALL))
    @every_attack
    def test_stays_inside_its_threat_model(attack): ...

The decorated test is unchanged. Each decorator adds one more test to its module, here
``test_stays_inside_its_threat_model_fails_under_no_op_projection``. It has the same fixtures and
parameters; it runs the body of the test with the attributes replaced, and fails unless the body
fails. The table of all mutations in CONTRIBUTING.md is written by ``docs/make_mutations.py``.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

Change: TypeAlias = tuple[object, str, object]
"""An object, the name of one of its attributes, and the attribute's value under the mutation."""


def fails_under(
    mutation: str,
    *changes: Change,
    raises: type[Exception] = AssertionError,
    **arguments: object,
) -> Callable[[Callable], Callable]:
    """A decorator that adds a test, which requires the decorated test to fail under a mutation.

    It is placed above ``pytest.mark.parametrize``.

    Args:
        mutation: Name of the mutation, unique for the test.
        changes: The attributes that the mutation replaces, after the fixtures are set up.
        raises: An exception that counts as a failure, besides failed assertions and
            ``pytest.fail``. Others are errors: the mutation may not fit the code any more.
        arguments: Values of arguments of the test. A parameter is restricted to this value, which
            must be one of its values; a fixture is replaced by it.
    """

    def decorate(test: Callable) -> Callable:
        marks = [_restricted(mark, arguments) for mark in getattr(test, "pytestmark", [])]
        parametrized = {name for mark in marks for name in _parameters(mark)}
        given = {name: value for name, value in arguments.items() if name not in parametrized}

        @functools.wraps(test)
        def mutated(**fixtures: object) -> None:
            with pytest.MonkeyPatch.context() as patch:
                for owner, name, value in changes:
                    patch.setattr(owner, name, value)
                with pytest.raises((AssertionError, pytest.fail.Exception, raises)):
                    test(**fixtures, **given)

        signature = inspect.signature(test)
        kept = [p for name, p in signature.parameters.items() if name not in given]
        mutated.__signature__ = signature.replace(parameters=kept)
        mutated.pytestmark = marks
        mutated.__name__ += "_fails_under_" + re.sub(r"\W+", "_", mutation).strip("_")
        assert mutated.__name__ not in test.__globals__, f"{mutated.__name__} exists already"
        test.__globals__[mutated.__name__] = mutated
        return test

    return decorate


def _parameters(mark: Any) -> list[str]:
    """The names of the arguments that a mark parametrizes."""
    if mark.name != "parametrize":
        return []
    names = mark.args[0]
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else [*names]


def _restricted(mark: Any, arguments: dict[str, object]) -> Any:
    """The mark with the values that agree with ``arguments`` only; values are equal by ``repr``."""
    names = _parameters(mark)
    wanted = {names.index(name): repr(arguments[name]) for name in names if name in arguments}
    if not wanted:
        return mark

    def row(value: Any) -> Any:
        if isinstance(value, type(pytest.param())):
            return value.values
        return value if len(names) > 1 else (value,)

    rows = [v for v in mark.args[1] if all(repr(row(v)[i]) == text for i, text in wanted.items())]
    assert rows, f"the test does not run with {arguments}"
    ids = mark.kwargs.get("ids")
    return pytest.mark.parametrize(mark.args[0], rows, ids=ids if callable(ids) else None).mark
