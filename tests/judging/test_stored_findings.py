"""Findings on disk: what is reused, what is replaced, and what is never stored."""

from __future__ import annotations

import math

import pytest

from mutations import fails_under
from spearshield.judging import stored_findings
from spearshield.judging.finding import COULD_NOT_RUN, Finding
from spearshield.judging.stored_findings import StoredFindings

FOUND = (Finding("more_steps", "low", {"share": 0.1, "images": 3}, "Means.", "next."),)


def never():
    pytest.fail("examined again")


def test_findings_are_reused_under_the_same_key_only(tmp_path):
    path = tmp_path / "examined" / "victim.json"
    assert StoredFindings(path, "a")(lambda: FOUND) == FOUND
    assert StoredFindings(path, "a")(never) == FOUND
    assert StoredFindings(path, "b")(lambda: ()) == ()
    assert StoredFindings(path, "b")(never) == ()
    assert StoredFindings(path, "a")(lambda: FOUND) == FOUND


@fails_under(
    "every finding is final",
    (stored_findings, "_is_final", lambda finding: True),
    raises=ValueError,
)
@pytest.mark.parametrize(("check", "number"), [(COULD_NOT_RUN, 1), ("false_gradient", math.nan)])
def test_errors_and_numbers_that_are_not_finite_are_not_stored(tmp_path, check, number):
    path = tmp_path / "victim.json"
    for _ in range(2):
        found = (*FOUND, Finding(check, "high", {"number": number}, "Means.", "next."))
        assert StoredFindings(path, "a")(lambda found=found: found) == found
        assert not path.exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"key": "a"}', '{"key": "a", "findings": [{}]}'])
def test_a_corrupt_file_is_named(tmp_path, content):
    path = tmp_path / "victim.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"victim\.json"):
        StoredFindings(path, "a")(never)
