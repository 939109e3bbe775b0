"""Input gradients of classifiers with and without their defences, as JSON on the standard output.

    python benchmarks/gradient_statistics.py RUN/TRAINING ... > gradients.json

The gradients are those of the cross-entropy at the first 500 test images, of the bare classifier
and of the defended one: see ``spearshield.judging.gradient_statistics``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from spearshield.experiment.opened import open_run
from spearshield.judging.gradient_statistics import InputGradients

IMAGES = 500


def statistics(training: Path) -> dict[str, float | None]:
    """The statistics of the bare classifier and of the defended one, and both compared."""
    run = open_run(training)
    images = run.recipe.data.load(run.recipe.split)[:IMAGES]
    each = {
        "bare": InputGradients.of(run.victim.innermost, images),
        "defended": InputGradients.of(run.victim, images),
    }
    found: dict[str, float | None] = {}
    for name, one in each.items():
        found |= {
            f"{name}: entropy": one.entropy,
            f"{name}: mutual information": one.mutual_information,
            f"{name}: class accuracy": one.class_accuracy,
            f"{name}: high frequencies": one.high_frequencies,
        }
    bare, defended = each.values()
    found["most frequent class"] = bare.most_frequent
    found["cosine similarity"] = bare.similarity(defended)
    found["shift"] = bare.shift(defended)
    return found


if __name__ == "__main__":
    print(json.dumps({path.name: statistics(path) for path in map(Path, sys.argv[1:])}, indent=1))
