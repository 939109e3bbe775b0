"""Numbers of steps that fill a given time: the plan of a run on an accelerator."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from spearshield.method import Task
from spearshield.rng import Rng, ambient
from spearshield.storage.atomic import write_json
from spearshield.training.loop import Training
from spearshield.types import Shape

WARM_UP, MEASURED = 5, 10
"""Steps before the clock starts, in which a graph is recorded, and steps of the measurement."""


def planned_steps(
    path: Path,
    trainings: Iterable[Training],
    seconds: float,
    classifier: nn.Module,
    shape: Shape,
    classes: int,
) -> dict[str, int]:
    """Steps of each training that take ``seconds``, by name.

    They are measured once and written to ``path``, so that a second call resumes the same run.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        counts = {}
        for training in trainings:
            step = seconds_of_a_step(training, classifier, shape, classes)
            counts[training.display_name] = max(2, int(seconds / step))
        write_json(path, counts)
    steps: dict[str, int] = json.loads(path.read_text())
    return steps


def seconds_of_a_step(
    training: Training, classifier: nn.Module, shape: Shape, classes: int
) -> float:
    """Time of one step of a training, on images of noise and the device of ``classifier``."""
    device = next(classifier.parameters()).device
    with ambient(0):
        task = Task(classifier, classifier, shape, classes, training.learn_from)
        learner = training.method.learner(task).to(device)
    x = torch.rand(training.batch_size, *shape, device=device)
    y = torch.arange(training.batch_size, device=device) % classes
    for number in range(WARM_UP + MEASURED):
        if number == WARM_UP:
            started = clock(device)
        learner.step(x, y, rng=Rng.of_batch(number, len(x), str(device)))
    return (clock(device) - started) / MEASURED


def clock(device: torch.device) -> float:
    """The time in seconds, after all work on a GPU is done; processor time on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()
