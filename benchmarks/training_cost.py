"""The cost of the trainings in finished runs, as JSON on the standard output.

    python benchmarks/training_cost.py RUN ... > cost.json

Each RUN is one seed of a recipe. For each training:

    minutes  processor time of all its steps, on the machine of the run; compare only within a run
    passes   forward passes of classifiers with a backward pass, per training image and epoch;
             null where the training changes no classifier
    gap      highest gap of the overfitting alarm; null where the alarm is off

``passes`` is counted in one step of a fresh learner, without the alarm and after the training of
static models. Passes of static models count; those of generators do not. A pass with interval
bounds counts once, but takes about three times as long.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from spearshield.experiment.opened import open_run
from spearshield.experiment.run import Run
from spearshield.method import Task
from spearshield.rng import Rng, ambient
from spearshield.training.classifier_training import (
    AdversarialTraining,
    ClassifierLearner,
    passes,
)
from spearshield.training.loop import Training, cpu_seconds
from spearshield.training.loss_log import LOSSES


def cost(run: Run, name: str, training: Training) -> dict[str, Any]:
    """The cost of one training."""
    folder = run.folder / name
    losses = [json.loads(line) for line in (folder / LOSSES).read_text().splitlines()]
    gaps = [line["gap"] for line in losses if "gap" in line]
    return {
        "minutes": cpu_seconds(folder) / 60,
        "passes": counted(run, training),
        "gap": max(gaps, default=None),
    }


def counted(run: Run, training: Training) -> float | None:
    """Forward passes with a backward pass of one step, per image; for classifiers alone."""
    method: Any = training.method
    if isinstance(method, AdversarialTraining):
        method = replace(method, watch_every=0)
    if any(name == "static_steps" for name in method.__dataclass_fields__):
        method = replace(method, static_steps=0)
    shape, classes = run.data_shape
    with ambient(0):
        networks = [run.recipe.classifier.build(shape, classes).eval() for _ in range(2)]
        learner = method.learner(Task(*networks, shape, classes, training.learn_from))
    if not isinstance(learner, ClassifierLearner):
        return None
    images = run.training_set[: training.batch_size]
    return passes(learner, images.images(), images.y, Rng(0, images.ids))


if __name__ == "__main__":
    costs: dict[int, dict[str, Any]] = {}
    for path in sys.argv[1:]:
        run = open_run(Path(path))
        costs[run.recipe.seed] = {
            name: cost(run, name, training)
            for name, training in run.recipe.trainings.items()
            if training and hasattr(training.method, "lr")
        }
    json.dump(costs, sys.stdout, indent=1)
