"""The share of images with a proof, by the fast bounds of the certificate alone, as JSON.

    python benchmarks/proved_share.py runs/cnn7-16/ibp --split validation

An audit also bounds every rectified layer, which takes minutes on wide networks and proves few
images more, and it has no validation images. The budget is L-inf 0.3 on MNIST.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

import spearshield
from spearshield.datasets.mnist import MNIST
from spearshield.judging.certificate import certify
from spearshield.threat import Linf

EPS = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL", help="RUN/TRAINING, or a shield")
    parser.add_argument("--split", default="test", choices=["test", "validation"])
    parser.add_argument("--images", type=int, default=1_000)
    options = parser.parse_args()
    shield = spearshield.load(options.model)
    examples = MNIST().load(options.split)[: options.images]
    proved = certify(shield, examples.images(), examples.y, Linf(EPS), closest=0)
    found = {
        "command": shlex.join(["python", "benchmarks/proved_share.py", *sys.argv[1:]]),
        "split": options.split,
        "images": len(examples),
        "eps": EPS,
        "proved": proved.float().mean().item(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
