"""PGD-40 compared with torchattacks and Foolbox: images per second, and success on each image.

    python benchmarks/pgd.py RUN/METHOD --eps 0.3 --out FILE

All attacks start at a random point, take steps of eps / 30 and differentiate the defended
classifier. They run in turn on one thread; the time is the median of the process time. With early
stop an image is no longer evaluated once it is broken, so the gain depends on the defence.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from spearshield.adversary import misclassified
from spearshield.attacks.pgd import PGD
from spearshield.experiment.opened import open_run
from spearshield.rng import Rng
from spearshield.storage.atomic import write_json
from spearshield.threat import Linf

STEPS = 40


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(1)
    folder = options.victim.parent
    run = replace(open_run(folder), trained=folder, selected=options.victim.name)
    fast = run.victim
    contiguous = replace(run).victim.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    examples = run.images[: options.images]
    x, y = examples.images(), examples.y
    threat = Linf(options.eps)
    attack = PGD(threat, steps=STEPS, step_size=options.eps / 30)
    rng = Rng(options.seed, examples.ids)
    contestants: dict[str, Callable[[], Tensor]] = {
        "spearshield": lambda: attack(fast, x, y, rng=rng),
        "spearshield, every step": lambda: replace(attack, early_stop=False)(fast, x, y, rng=rng),
        "torchattacks": lambda: torchattacks(contiguous, x, y, options.eps),
        "foolbox": lambda: foolbox(contiguous, x, y, options.eps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    broken: dict[str, Tensor] = {}
    for number in range(options.rounds):
        for name, run_attack in contestants.items():
            torch.manual_seed(options.seed)
            start = time.process_time()
            x_adv = run_attack()
            seconds[name].append(time.process_time() - start)
            broken[name] = misclassified(contiguous, x_adv, y)
            assert threat.contains(x_adv, x).all()
        print("round", number + 1, "of", options.rounds, flush=True)
    reference = statistics.median(seconds["torchattacks"])
    rows = [
        {
            "attack": name,
            "victim": options.victim.name,
            "images": len(y),
            "eps": options.eps,
            "steps": STEPS,
            "success": float(broken[name].double().mean()),
            "broken_unlike_torchattacks": int((broken[name] != broken["torchattacks"]).sum()),
            "process_seconds": [round(s, 3) for s in seconds[name]],
            "images_per_second": round(len(y) / statistics.median(seconds[name]), 1),
            "times_torchattacks": round(reference / statistics.median(seconds[name]), 2),
            "torch": torch.__version__,
        }
        for name in contestants
    ]
    for row in rows:
        print(row)
    write_json(options.out, rows)


def torchattacks(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    import torchattacks

    attack = torchattacks.PGD(model, eps=eps, alpha=eps / 30, steps=STEPS, random_start=True)
    x_adv: Tensor = attack(x, y)
    return x_adv


def foolbox(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    import foolbox as fb

    attack = fb.attacks.LinfProjectedGradientDescentAttack(steps=STEPS, rel_stepsize=1 / 30)
    x_adv: Tensor
    _, x_adv, _ = attack(fb.PyTorchModel(model, (0, 1), device="cpu"), x, y, epsilons=eps)
    return x_adv


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("victim", type=Path, metavar="RUN/METHOD")
    words.add_argument("--eps", type=float, required=True)
    words.add_argument("--images", type=int, default=256)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--out", type=Path, required=True)
    return words


if __name__ == "__main__":
    main()
