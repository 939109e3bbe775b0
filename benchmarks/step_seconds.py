"""Seconds of a step of each training of a recipe, as JSON on the standard output.

    python benchmarks/step_seconds.py gan_adversarial_training_cifar10_jpeg --size 3x32x32

The images are noise, and the data pipeline is not included. ``minutes`` is the time of all steps.
On a CPU it is processor time. The networks are those of seed 0, as in the output of
``training_cost.py``.
"""

from __future__ import annotations

import argparse
import json

from planned_steps import seconds_of_a_step

from spearshield.cli.options import changed
from spearshield.experiment.recipe import load_recipe
from spearshield.rng import ambient

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--size", default="1x28x28", help="channels x height x width")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    recipe = changed(load_recipe(options.recipe), options.changes)
    channels, height, width = map(int, options.size.split("x"))
    shape = (channels, height, width)
    with ambient(0):
        classifier = recipe.classifier.build(shape, options.classes).eval().to(options.device)
    found = {}
    for name, training in recipe.trainings.items():
        if training is not None and training.steps > 0:
            seconds = seconds_of_a_step(training, classifier, shape, options.classes)
            minutes = training.steps * seconds / 60
            found[name] = {"seconds": seconds, "steps": training.steps, "minutes": minutes}
    print(json.dumps({"0": found}, indent=1))
