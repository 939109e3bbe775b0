"""Measure how many images each part of a battery breaks after two runs of APGD, and its cost.

    python benchmarks/parts.py RUN/METHOD --eps 0.3 --out FILE
    python benchmarks/parts.py --classifier small_cnn --weights FILE --data mnist --eps 0.3 \\
        --out FILE

APGD on the cross-entropy and towards 9 classes runs first; each part then attacks the surviving
images. The images are validation images, because the standard battery was chosen from these
results. Times are process times on one thread.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from judges import opened, parser

from spearshield.adversary import Attack, misclassified
from spearshield.attacks.apgd import APGD
from spearshield.attacks.fab import FAB
from spearshield.attacks.guided_search import GuidedSearch
from spearshield.attacks.square import Square
from spearshield.rng import Rng
from spearshield.storage.atomic import write_json
from spearshield.threat import Linf


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    run = opened(options)
    run = replace(run, recipe=replace(run.recipe, split="validation"))
    victim, examples = run.victim, run.images[: options.images]
    x, y = examples.images(), examples.y
    threat = Linf(options.eps)
    rows = []

    def attack_with(name: str, attack: Attack, left: torch.Tensor, seed: int = 0) -> torch.Tensor:
        """The images that survive the attack."""
        began = time.process_time()
        broken = [
            misclassified(victim, attack(victim, x[part], y[part], rng=Rng(seed, part)), y[part])
            for part in left.split(250)
        ]
        seconds = time.process_time() - began
        mask = torch.cat(broken)
        row = {"part": name, "images": len(left), "broke": int(mask.sum())}
        rows.append({**row, "process_seconds": round(seconds, 1), "seed": seed})
        print(rows[-1], flush=True)
        return left[~mask]

    left = (~misclassified(victim, x, y)).nonzero().squeeze(1)
    left = attack_with("APGD cross-entropy", APGD(threat), left)
    left = attack_with("APGD towards 9 classes", APGD(threat, targets=9), left)
    for name, attack in {
        "APGD towards 9 classes again": APGD(threat, targets=9),
        "the same and 2 last runs": APGD(threat, targets=9, last_runs=2),
        "FAB towards 9 classes": FAB(threat, targets=9),
        "FAB towards 3 classes": FAB(threat, targets=3),
        "Square, 5,000 queries": Square(threat, queries=5000),
        "Square, 1,000 queries": Square(threat, queries=1000),
        "guided search, 2,000 queries": GuidedSearch(threat),
    }.items():
        attack_with(name, attack, left, seed=1)
    about = argparse.Namespace(victim=str(options.victim or options.classifier), data=options.data)
    write_json(options.out, {**vars(about), "eps": options.eps, "rows": rows})


if __name__ == "__main__":
    main()
