"""Range checks accept values inside, and reject values outside and NaN."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from spearshield.adversary import Attack
from spearshield.architecture import Architecture
from spearshield.dataset import Dataset
from spearshield.discover import find, names
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.method import Method
from spearshield.nets.latent_projection import LatentSearchSettings
from spearshield.ranges import require
from spearshield.threat import L2


@dataclass
class Settings:
    n: float | None


@dataclass
class Choice:
    loss: str


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "message"),
    [
        ({"at_least": 1}, (1, 2), (0, float("nan")), "n must be at least 1, got"),
        ({"above": 0}, (0.1,), (0, -1, float("nan")), "n must be above 0, got"),
        ({"at_most": 1}, (1, -5), (1.5, float("nan")), "n must be at most 1, got"),
        ({"below": 1}, (0.9,), (1, float("nan")), "n must be below 1, got"),
    ],
)
def test_bounds(bounds, good, bad, message):
    for number in (*good, None):
        require(Settings(number), "n", **bounds)
    for number in bad:
        with pytest.raises(ValueError, match=message):
            require(Settings(number), "n", **bounds)


def test_choices():
    require(Choice("dlr"), "loss", one_of=("dlr", "margin"))
    with pytest.raises(ValueError, match="loss must be one of dlr, margin, got 'hinge'"):
        require(Choice("hinge"), "loss", one_of=("dlr", "margin"))


def values() -> dict[str, Any]:
    """Every registered attack, method, architecture and data set with default settings."""
    bases = {
        "attacks": Attack,
        "methods": Method,
        "classifiers": Architecture,
        "datasets": Dataset,
    }
    kinds = {
        f"{kind}/{n}": find(kind, base, n) for kind, base in bases.items() for n in names(kind)
    }
    found = {
        name: kind(L2(1.0)) if issubclass(kind, Attack) else kind()
        for name, kind in kinds.items()
        if issubclass(kind, Attack) or all(f.default is not MISSING for f in fields(kind))
    }
    return found | {
        "evaluation settings": EvaluationSettings(),
        "latent search settings": LatentSearchSettings(),
    }


VALUES = values()


@pytest.mark.parametrize("name", VALUES)
def test_every_numeric_field_of_every_value_has_a_range(name):
    value = VALUES[name]
    hints = get_type_hints(type(value))
    for field in fields(value):
        hint = hints[field.name]
        kinds = get_args(hint) if get_origin(hint) is UnionType else (hint,)
        if field.name == "seed" or not {int, float} & set(kinds):
            continue
        impossible = -4.5 if float in kinds else -4
        with pytest.raises(ValueError, match=f"^{field.name} must be"):
            replace(value, **{field.name: impossible})
