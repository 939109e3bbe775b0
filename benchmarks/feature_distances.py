"""Distances in the penultimate features of the classifier, from the pictures of a run, as JSON.

    python benchmarks/feature_distances.py RUN > features.json

For each defence and view of PGD, in L-inf: the mean distances of the attacked and of the purified
images from the clean images, in units of the mean norm of the clean features.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from spearshield.report.pictures import read

distances: dict[str, dict[str, dict[str, float]]] = {}
for path in sorted((Path(sys.argv[1]) / "pictures").glob("*.pgd.*.safetensors")):
    picture = read(path)
    if picture.features is None or picture.threat != "Linf":
        continue
    attacked, purified = picture.features.distances
    distances.setdefault(picture.method, {})[picture.view] = {
        "images": len(attacked),
        "attacked": round(float(attacked.mean()), 3),
        "purified": round(float(purified.mean()), 3),
    }
json.dump(distances, sys.stdout, indent=1)
print()
