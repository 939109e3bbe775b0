"""Schemas of dataclasses: every kind of type, and its values back from JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import jsonschema
import pytest

from spearshield.judging.schema import from_json, keywords, schema_of


@dataclass(frozen=True)
class Inner:
    name: str


@dataclass(frozen=True)
class Outer:
    count: Annotated[int, keywords(minimum=1)]
    inner: Inner
    pair: tuple[float, str] | None = None
    pairs: dict[Literal["a", "b"], tuple[int, int]] = field(default_factory=dict)
    records: list[Annotated[dict[str, Any], Inner]] = field(default_factory=list)


FULL = Outer(2, Inner("x"), (0.5, "y"), {"a": (1, 2)}, [{"name": "z"}])


@pytest.mark.parametrize("value", [FULL, Outer(1, Inner(""))])
def test_a_value_is_valid_and_is_restored(value):
    written = json.loads(json.dumps(asdict(value)))
    jsonschema.validate(written, schema_of(Outer))
    assert from_json(Outer, written) == value


@pytest.mark.parametrize(
    "change",
    [
        {"count": 0},
        {"count": 1.5},
        {"inner": {}},
        {"inner": {"name": "x", "other": 1}},
        {"pair": [0.5]},
        {"pair": ["y", 0.5]},
        {"pairs": {"c": [1, 2]}},
        {"records": [{"name": 1}]},
        {"unknown": 1},
    ],
)
def test_an_invalid_value_is_refused(change):
    written = json.loads(json.dumps(asdict(FULL)))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**written, **change}, schema_of(Outer))


def test_fields_without_a_default_are_required():
    assert schema_of(Outer)["required"] == ["count", "inner"]
