"""S2SNets at the paper's width for photographs of 224 pixels, in a given time on one GPU.

    python benchmarks/gpu_s2snets_imagenet.py --seconds 240 --out runs/gpu_s2snets_imagenet

The script measures the time of a step of both stages, gives each stage as many steps as
``--seconds`` allow, and runs the recipes ``s2snets_imagenet_structure`` and ``s2snets_imagenet``
with 64 channels and these steps. The plans are written first, so the same command resumes an
interrupted run. With ``--vgg16`` the encoder starts from the weights of torchvision's VGG16. Then:

    spearshield audit runs/gpu_s2snets_imagenet/signal/s2snets --device cuda --images 200
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from planned_steps import planned_steps

from spearshield.experiment.run import Run
from spearshield.recipes.s2snets_imagenet import RECIPE as SIGNAL
from spearshield.recipes.s2snets_imagenet_structure import RECIPE as STRUCTURE
from spearshield.rng import ambient
from spearshield.training.loop import Training

SMALL, LARGE, CLASSES = (3, 64, 64), (3, 224, 224), 1_000


def changed(training: Training, steps: int, **settings: Any) -> Training:
    """The training with other hyper-parameters, for a number of steps."""
    method = replace(training.method, decay_steps=steps, **settings)
    return replace(training, method=method, steps=steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=240.0, help="for each stage")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--vgg16", default="", help="file with the weights of torchvision's VGG16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=200, help="test images to attack")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with ambient(0):
        classifier = SIGNAL.classifier.build(LARGE, CLASSES).eval().to(options.device)

    (training,) = STRUCTURE.defences
    first = changed(training, 0, width=options.width, vgg16=options.vgg16)
    plan = options.out / "structure.json"
    steps = planned_steps(plan, [first], options.seconds, classifier, SMALL, CLASSES)["structure"]
    first = changed(first, steps, structure_steps=steps)
    recipe = replace(STRUCTURE, defences=(first,))
    Run(recipe, "structure", options.out / "structure", device=options.device)()

    weights = str(options.out / "structure" / "structure" / "weights.safetensors")
    control, training, *_ = SIGNAL.defences  # the transformations need no accelerator
    second = changed(training, 0, width=options.width, weights=weights)
    plan = options.out / "signal.json"
    steps = planned_steps(plan, [second], options.seconds, classifier, LARGE, CLASSES)["s2snets"]
    defences = (changed(control, 0, width=options.width, weights=weights), changed(second, steps))
    recipe = replace(SIGNAL, defences=defences, images=options.images)
    for row in Run(recipe, "signal", options.out / "signal", device=options.device)():
        print(f"{row.method:16} {row.attack:12} {row.view:10} {100 * row.robust_acc:5.1f}")
