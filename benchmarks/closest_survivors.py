"""The images of an audit that survived all its attacks with the smallest margins, as an npz file.

    python benchmarks/closest_survivors.py runs/audit-robust-0 --data mnist --images 50 \
        --out runs/closest.npz
    spearshield audit runs/robust-0/robust --data runs/closest.npz --attack pgd \
        --set attack.steps=1000 --set attack.restarts=20 --out runs/long

Attacks of many steps are affordable on them, and most likely to succeed. The result is an upper
bound of the robust accuracy: the other survivors are not attacked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from spearshield.cli.values import whole
from spearshield.datasets import dataset
from spearshield.judging.cached_evaluation import OUTCOMES
from spearshield.storage import checkpoint


def main() -> None:
    options = parser().parse_args()
    examples = dataset(options.data).load(options.split, root=options.data_dir)
    closest: dict[int, float] = {}
    for path in sorted((options.audit / OUTCOMES).glob("*.safetensors")):
        outcome = checkpoint.load(path)
        margins = outcome["adv_margin"].where(outcome["victim_clean"] == outcome["y"], torch.inf)
        for image, margin in zip(outcome["ids"].tolist(), margins.tolist(), strict=True):
            closest[image] = max(margin, closest.get(image, margin))
    survivors = [image for image, margin in closest.items() if margin < 0]
    chosen = sorted(sorted(survivors, key=closest.__getitem__)[-options.images :])
    if not chosen:
        sys.exit(f"{options.audit} has no survivors")
    positions = [examples.ids.tolist().index(image) for image in chosen]
    picked = examples[torch.tensor(positions)]
    pixels = picked.images().mul(255).round().to(torch.uint8)
    arrays = {"images": pixels.numpy(), "labels": picked.y.numpy(), "names": np.array(picked.names)}
    np.savez(options.out, **arrays)
    most = max(-closest[image] for image in chosen)
    print(
        f"{len(chosen)} of {len(survivors)} survivors; under the strongest attack, the logit of the"
    )
    print(f"label exceeds the highest other logit by at most {most:.2f}")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("audit", type=Path, metavar="AUDIT", help="the folder of an audit")
    options.add_argument("--data", required=True, help="the data set of the audit, as it named it")
    options.add_argument("--split", default="test", choices=["test", "validation"])
    options.add_argument("--data-dir", type=Path)
    options.add_argument("--images", type=whole(1, 10**6), default=50)
    options.add_argument("--out", type=Path, required=True, metavar="FILE")
    return options


if __name__ == "__main__":
    main()
