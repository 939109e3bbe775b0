"""Settings of a training that a user did not give, taken from the images."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

from spearshield import discover
from spearshield.adversary import Attack
from spearshield.arguments import check_instance
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.method import Method
from spearshield.ranges import whole_number
from spearshield.threat import Linf, ThreatModel
from spearshield.training.loop import Training
from spearshield.types import Shape

PASSES = 20
"""Passes over the training images, within the limits of ``MOST_STEPS`` and ``LEAST_STEPS``."""

LEAST_STEPS, MOST_STEPS = 400, 5_000
BATCH = 64


def threat_for(shape: Shape) -> ThreatModel:
    """The usual budget for images of this shape, in the L-infinity norm.

    It is 0.3 for grey images of at most 32 pixels, 4/255 for images with a side of at least 128
    pixels, and 8/255 for all others.
    """
    channels, height, width = shape
    if max(height, width) >= 128:
        return Linf(4 / 255)
    return Linf(0.3) if channels == 1 and max(height, width) <= 32 else Linf(8 / 255)


def check_threat(threat: object, shape: Shape) -> None:
    """Raise unless ``threat`` is a threat model that allows fewer than all images of a shape.

    Raises:
        ValueError: It is of another type, or no two images of this shape are as far apart.
    """
    ThreatModel.check(threat)
    assert isinstance(threat, ThreatModel)
    furthest = math.prod(shape) ** (1 / threat.p)
    if threat.eps > furthest * (1 + 1e-6):
        raise ValueError(
            f"{threat.norm} {threat.eps:g} is more than {furthest:g}, the distance between a black "
            f"and a white image of shape {shape}; budgets are on the [0, 1] pixel scale: write "
            f"{threat.norm}({threat.eps:g} / 255), or --eps {threat.eps:g}/255"
        )


def budget_for(threat: ThreatModel | None, shape: Shape) -> ThreatModel:
    """``threat`` after :func:`check_threat`; by default :func:`threat_for` the shape."""
    budget = threat_for(shape) if threat is None else threat
    check_threat(budget, shape)
    return budget


def training_for(
    method: str | Method,
    examples: Examples,
    threat: ThreatModel,
    training_attack: Attack | str | None,
    steps: int | None,
    batch_size: int | None,
) -> Training:
    """A training with every setting filled in.

    A method that trains an attack gets ``threat`` as its budget, and a learning rate that falls
    over time falls over all steps, unless the method was given as a value. A training attack given
    by name takes all of its steps: an image that barely fools the classifier teaches less.

    Raises:
        ValueError: There is no such method or attack, a number is out of range, a budget is too
            large for the images, or the images are fewer than two or all of one class.
    """
    count = len(examples)
    if count < 2:
        raise ValueError(f"training needs at least 2 images, got {count}")
    if (only := int(examples.y.min())) == int(examples.y.max()):
        raise ValueError(
            f"training needs images of at least 2 classes; all {count} are of class {only}"
        )
    batch = min(BATCH, max(2, count // 4)) if batch_size is None else batch_size
    batch = whole_number("batch_size", batch, at_least=1)
    usual = min(MOST_STEPS, max(LEAST_STEPS, PASSES * count // batch))
    total = usual if steps is None else whole_number("steps", steps)
    value = _method(method, threat, total) if isinstance(method, str) else method
    check_instance(value, Method, "a method as DAE() or by name")
    if steps is None and not value.trained:
        total = 0
    if training_attack is None:
        attack: Any = PGD(threat, steps=7, step_size=threat.eps / 4, early_stop=False)
    elif isinstance(training_attack, str):
        attack = all_steps(attack_named(training_attack, threat))
    else:
        attack = training_attack
    check_instance(attack, Attack, "a training attack as PGD(Linf(8 / 255)) or by name")
    for budget in (attack.threat, getattr(value, "threat", threat)):
        check_threat(budget, examples.shape)
    return Training(value, total, attack, batch)


def attack_named(attack: Attack | str, threat: ThreatModel) -> Attack:
    """The attack of a name under a budget; an attack itself.

    Raises:
        ValueError: There is no such attack.
    """
    if not isinstance(attack, str):
        return attack
    kind = discover.find("attacks", Attack, attack)  # type: ignore[type-abstract]
    return kind(threat)


def all_steps(attack: Attack) -> Attack:
    """The attack without early stopping."""
    if any(field.name == "early_stop" for field in fields(attack)):
        return replace(attack, early_stop=False)  # type: ignore[call-arg]
    return attack


def _method(name: str, threat: ThreatModel, steps: int) -> Method:
    kind: Any = discover.find("methods", Method, name)
    value: Method = kind()
    if any(field.name == "threat" for field in fields(kind)):
        value = replace(value, threat=threat)  # type: ignore[call-arg]
    return value.for_steps(steps)
