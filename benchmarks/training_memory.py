"""Peak memory in two steps of a training on images of noise, in GiB, as JSON.

python benchmarks/training_memory.py inverse_perturbation_imagenet ip_gan --size 299
"""

from __future__ import annotations

import argparse
import json
import resource

import torch

from spearshield.experiment.recipe import load_recipe
from spearshield.method import Task
from spearshield.rng import Rng, ambient


def peak() -> float:
    """Most memory that the process has had so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("training", metavar="TRAINING")
    parser.add_argument("--size", type=int, default=224, help="height and width")
    parser.add_argument("--classes", type=int, default=1_000)
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    training = recipe.trainings[options.training]
    assert training is not None
    shape = (3, options.size, options.size)
    with ambient(0):
        classifier = recipe.classifier.build(shape, options.classes).eval()
        task = Task(classifier, classifier, shape, options.classes, training.learn_from)
        learner = training.method.learner(task)
    x = torch.rand(training.batch_size, *shape)
    y = torch.arange(training.batch_size) % options.classes
    before = peak()
    for number in range(2):
        learner.step(x, y, rng=Rng.of_batch(number, len(x)))
    print(json.dumps({"size": options.size, "before": before, "peak": peak()}))
