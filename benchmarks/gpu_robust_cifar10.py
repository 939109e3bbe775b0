"""CIFAR-10 as JPEG, ResNet-18: trainings of equal time on one GPU, at most ten minutes in all.

    python benchmarks/gpu_robust_cifar10.py --seconds 100 --out runs/gpu_robust_cifar10

The trainings are those of the recipe ``gan_adversarial_training_cifar10_jpeg``. The script measures
the time of a step of each, gives each as many steps as ``--seconds`` allow, and runs the recipe
with ResNet-18 and these steps; five trainings of 100 seconds leave 100 seconds for the attacks. The
plan, in ``plan.json``, is written first, so the same command resumes the run. On a GPU the steps
are replayed as CUDA graphs, see ``classifier_graphs.py``. Afterwards:

    spearshield audit runs/gpu_robust_cifar10/run/learned_adversary --device cuda --images 1000
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from classifier_graphs import classifier_graphs
from planned_steps import planned_steps

from spearshield.architecture import Architecture
from spearshield.classifiers import architecture
from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run
from spearshield.recipes.gan_adversarial_training_cifar10_jpeg import RECIPE, schedule
from spearshield.rng import ambient

SHAPE, CLASSES = (3, 32, 32), 10


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
    with ambient(0):
        built = network.build(SHAPE, CLASSES).eval().to(options.device)
    plan = options.out / "plan.json"
    with classifier_graphs():
        steps = planned_steps(plan, RECIPE.defences, options.seconds, built, SHAPE, CLASSES)
        recipe = replace(planned(steps, network), images=options.images, batch_size=1_000)
        run = Run(recipe, "gpu_robust_cifar10", options.out / "run", device=options.device)
        run.train()
    for row in run():
        print(f"{row.method:20} {row.attack:12} {100 * row.acc:5.1f} {100 * row.robust_acc:5.1f}")
