"""CIFAR-10 as JPEG, ResNet-18: trainings of equal time on one GPU, at most ten minutes in all.

    python benchmarks/gpu_robust_cifar10.py --seconds 100 --out runs/gpu_robust_cifar10

The trainings are those of the recipe ``gan_adversarial_training_cifar10_jpeg``. The script measures
the time of a step of each, gives each as many steps as ``--seconds`` allow, and runs the recipe
with ResNet-18 and these steps; five trainings of 100 seconds leave 100 seconds for the attacks. The
plan, in ``plan.json``, is written first, so the same command resumes the run. Afterwards:

    spearshield audit runs/gpu_robust_cifar10/run/learned_adversary --device cuda --images 1000
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from spearshield.architecture import Architecture
from spearshield.classifiers import architecture
from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run
from spearshield.method import Task
from spearshield.recipes.gan_adversarial_training_cifar10_jpeg import RECIPE, schedule
from spearshield.rng import Rng, ambient
from spearshield.storage.atomic import write_json
from spearshield.training.loop import Training

SHAPE, CLASSES = (3, 32, 32), 10
WARM_UP, MEASURED = 3, 10
"""Steps before the clock starts, and steps of the measurement."""


def seconds_of_a_step(training: Training, classifier: Architecture, device: str) -> float:
    """Time of one step of a training, on images of noise."""
    with ambient(0):
        networks = [classifier.build(SHAPE, CLASSES).eval().to(device) for _ in range(2)]
        task = Task(*networks, SHAPE, CLASSES, training.learn_from)
        learner = training.method.learner(task).to(device)
    x = torch.rand(training.batch_size, *SHAPE, device=device)
    y = torch.arange(training.batch_size, device=device) % CLASSES
    for number in range(WARM_UP + MEASURED):
        if number == WARM_UP:
            started = clock(device)
        learner.step(x, y, rng=Rng.of_batch(number, len(x), device))
    return (clock(device) - started) / MEASURED


def clock(device: str) -> float:
    """The time in seconds, after all work on the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def planned(steps: dict[str, int], classifier: Architecture) -> Recipe:
    """The recipe with these numbers of steps."""
    defences = tuple(
        replace(training, method=with_schedule(training.method, count), steps=count)
        for training in RECIPE.defences
        for count in [steps[training.display_name]]
    )
    return replace(RECIPE, classifier=classifier, pretraining=None, defences=defences)


def with_schedule(method: Any, steps: int) -> Any:
    """The method with the recipe's schedule for a number of steps."""
    return replace(method, **schedule(steps))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=100.0, help="for each training")
    parser.add_argument("--classifier", default="resnet18")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=1_000, help="test images to attack")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    network = architecture(options.classifier)
    plan = options.out / "plan.json"
    if not plan.exists():
        options.out.mkdir(parents=True, exist_ok=True)
        counts = {
            training.display_name: max(
                2, int(options.seconds / seconds_of_a_step(training, network, options.device))
            )
            for training in RECIPE.defences
        }
        write_json(plan, counts)
    recipe = planned(json.loads(plan.read_text()), network)
    run = Run(
        replace(recipe, images=options.images),
        "gpu_robust_cifar10",
        options.out / "run",
        device=options.device,
    )
    for row in run():
        print(f"{row.method:20} {row.attack:12} {100 * row.acc:5.1f} {100 * row.robust_acc:5.1f}")
