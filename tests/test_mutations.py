"""Mutations: the test that a decorator adds passes only if the decorated test fails."""

from __future__ import annotations

import math

import pytest

from mutations import fails_under


def names_e(number, wanted):
    assert wanted == getattr(math, number)


def added(test, mutation, *changes, **arguments):
    """The test that ``fails_under`` adds, which is removed from the module."""
    assert fails_under(mutation, *changes, **arguments)(test) is test
    name = f"{test.__name__}_fails_under_{mutation.replace(' ', '_')}"
    return test.__globals__.pop(name)


def test_it_passes_if_the_test_fails_under_the_mutation():
    mutated = added(names_e, "another e", (math, "e", 3.0), wanted=math.e)
    mutated(number="e")
    assert math.e != 3.0


def test_it_fails_if_the_test_does_not_detect_the_mutation():
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        added(names_e, "another pi", (math, "pi", 3.0), wanted=math.e)(number="e")


def test_an_error_is_not_a_failure_unless_it_is_named():
    def divides():
        return 1 / math.e

    change = (math, "e", 0.0)
    with pytest.raises(ZeroDivisionError):
        added(divides, "zero", change)()
    added(divides, "zero", change, raises=ZeroDivisionError)()


def test_a_skipped_test_is_skipped():
    def skips():
        pytest.skip("no data")

    with pytest.raises(pytest.skip.Exception):
        added(skips, "zero", (math, "e", 0.0))()


def test_parameters_are_restricted_to_the_named_value():
    rows = [("e", math.nan), pytest.param("pi", math.nan, id="circle"), ("tau", 2.0)]

    @pytest.mark.parametrize("number, wanted", rows)
    def test(number, wanted):
        pass

    (mark,) = added(test, "zero", (math, "e", 0.0), wanted=math.nan).pytestmark
    assert mark.args[1] == rows[:2]
    with pytest.raises(AssertionError, match="does not run with {'number': 'inf'}"):
        fails_under("zero", (math, "e", 0.0), number="inf")(test)
