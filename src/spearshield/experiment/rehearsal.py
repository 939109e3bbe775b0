"""Checks of a recipe before its first training, so that nothing fails after a long one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from torch import nn

from spearshield.experiment.defaults import check_threat
from spearshield.experiment.recipe import Recipe
from spearshield.method import Learner, Task
from spearshield.rng import ambient
from spearshield.threat import ThreatModel
from spearshield.training.loop import Training
from spearshield.types import Shape


def check_budgets(recipe: Recipe, shape: Shape) -> None:
    """Raise if a budget of a recipe allows every image of a shape.

    Raises:
        ValueError: Names the budget, and how to write it.
    """
    for threat in _budgets((recipe.pretraining, recipe.defences, recipe.trials)):
        check_threat(threat, shape)


def rehearsed(
    training: Training, seed: int, build: Callable[[], nn.Module], of: tuple[Shape, int]
) -> Learner:
    """The learner of a training before its first step.

    Args:
        build: Returns the classifier with fresh weights.
        of: Shape of an image and number of classes.

    Raises:
        ValueError: The method cannot be trained on such images, or without an attack.
    """
    with ambient(seed):
        task = Task(build(), build(), *of, training.learn_from)
        return training.method.learner(training.rehearsal(task))


def _budgets(value: Any) -> list[ThreatModel]:
    """The threat models in a frozen value."""
    if isinstance(value, ThreatModel):
        return [value]
    if isinstance(value, tuple):
        return [found for part in value for found in _budgets(part)]
    if not is_dataclass(value):
        return []
    return [found for field in fields(value) for found in _budgets(getattr(value, field.name))]
