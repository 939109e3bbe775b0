"""Distances in the penultimate features of the classifier, from the pictures of a run, as JSON.

    python benchmarks/feature_distances.py RUN > features.json

For each defence and view of PGD, in L-inf: the mean distances of the attacked and of the purified
images from the clean images, in units of the mean norm of the clean features.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TypeAlias

from spearshield.report.pictures import read

Distances: TypeAlias = dict[str, dict[str, dict[str, float]]]


def distances(folder: Path) -> Distances:
    """The mean distances of each defence and view, of the run in ``folder``."""
    found: Distances = {}
    for path in sorted((folder / "pictures").glob("*.pgd.*.safetensors")):
        picture = read(path)
        if picture.features is None or picture.threat != "Linf":
            continue
        attacked, purified = picture.features.distances
        found.setdefault(picture.method, {})[picture.view] = {
            "images": len(attacked),
            "attacked": round(float(attacked.mean()), 3),
            "purified": round(float(purified.mean()), 3),
        }
    return found


if __name__ == "__main__":
    print(json.dumps(distances(Path(sys.argv[1])), indent=1))
