"""Measure how many images each candidate part of a battery breaks, and its cost.

    python benchmarks/parts.py SHIELD --data mnist --threat L2 --eps 1.5 --out FILE
    python benchmarks/parts.py --classifier small_cnn --weights FILE --data mnist --threat Linf \\
        --eps 0.3 --out FILE

APGD on the cross-entropy runs first. Each part then attacks the same surviving images. The images
are validation images, because the batteries were chosen from these results. Times are process times
on one thread. Parts that FILE already holds are not run again; ``--part`` names the parts to run.
"""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from judges import Case, mask_text, parser

from spearshield.adversary import Attack, misclassified
from spearshield.attacks.apgd import APGD
from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.attacks.fab import FAB
from spearshield.attacks.fmn import FMN
from spearshield.attacks.guided_search import GuidedSearch
from spearshield.attacks.square import Square
from spearshield.rng import Rng
from spearshield.storage.atomic import write_json
from spearshield.threat import L2, ThreatModel


def candidates(threat: ThreatModel) -> dict[str, Attack]:
    """The parts, by name."""
    parts = {
        "FMN, 1 run": FMN(threat, restarts=1),
        "FMN, 2 runs": FMN(threat, restarts=2),
        "FMN, 10 runs": FMN(threat, restarts=10),
        "FAB towards 1 class": FAB(threat, targets=1),
        "FAB towards 3 classes": FAB(threat, targets=3),
        "FAB towards 9 classes": FAB(threat, targets=9),
        "APGD on the DLR": APGD(threat, "dlr"),
        "APGD towards 9 classes, and 2 last runs": APGD(threat, targets=9, last_runs=2),
        "Square, 1,000 queries": Square(threat, queries=1000),
        "guided search, 2,000 queries": GuidedSearch(threat),
    }
    if isinstance(threat, L2):
        parts["Carlini-Wagner, 6 constants, 300 steps"] = CarliniWagner(
            threat, steps=300, lr=0.03, searches=6, initial_c=1.0
        )
    return parts


def main() -> None:
    words = parser(__doc__ or "")
    words.add_argument("--part", action="append", help="may be repeated; default: all")
    options = words.parse_args()
    torch.set_num_threads(1)
    case = Case.of(options, "validation")
    victim, x, y, threat = case.outcome.defended, case.x, case.examples.y, case.threat
    rows: list[dict[str, Any]] = []
    if options.out.exists():
        rows = json.loads(options.out.read_text(encoding="utf-8"))["rows"]

    def attack_with(name: str, attack: Attack, left: torch.Tensor, seed: int = 1) -> torch.Tensor:
        """The images that survive the attack."""
        began = time.process_time()
        mask = torch.zeros(len(x), dtype=torch.bool)
        for part in left.split(250):
            x_adv = attack(victim, x[part], y[part], rng=Rng(seed, part))
            mask[part] = misclassified(victim, x_adv, y[part])
        seconds = round(time.process_time() - began, 1)
        row = {"part": name, "images": len(left), "broke": int(mask.sum())}
        rows.append({**row, "process_seconds": seconds, "broken": mask_text(mask)})
        print(row, seconds, flush=True)
        about = {"victim": case.name, "data": case.data}
        write_json(options.out, {**about, "threat": threat.norm, "eps": threat.eps, "rows": rows})
        return left[~mask[left]]

    left = (~misclassified(victim, x, y)).nonzero().squeeze(1)
    if not rows:
        attack_with("APGD on the cross-entropy", APGD(threat), left, seed=0)
    survivors = torch.tensor([bit == "0" for bit in rows[0]["broken"]])
    left = left[survivors[left]]
    known = {row["part"] for row in rows}
    for name, attack in candidates(threat).items():
        if name not in known and (not options.part or name in options.part):
            attack_with(name, attack, left)


if __name__ == "__main__":
    main()
