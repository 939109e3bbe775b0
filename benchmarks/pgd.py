"""PGD-40 in evaluation mode beside torchattacks and Foolbox: images a second, success per image.

    python benchmarks/pgd.py RUN/METHOD --eps 0.3 --out FILE

The runs alternate, on one thread; the figure is the median of the process's time. In evaluation
mode an image leaves once it is broken, so the gain depends on how many withstand the attack. All
start at a random point, take steps of eps / 30 and get the victim as it is.
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

from spearshield.attacks.pgd import PGD
from spearshield.experiment.run import reopen
from spearshield.rng import Rng
from spearshield.storage.atomic import write_json
from spearshield.threat import Linf

STEPS = 40


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(1)
    folder = options.victim.parent
    run = replace(reopen(folder), trained=folder, only=options.victim.name)
    fast = run.victim
    plain = replace(run).victim.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    examples = run.images[: options.images]
    x, y = examples.images(), examples.y
    threat = Linf(options.eps)
    attack = PGD(threat, steps=STEPS, step_size=options.eps / 30)
    rng = Rng(options.seed, examples.ids)
    contestants: dict[str, Callable[[], Tensor]] = {
        "spearshield": lambda: attack(fast, x, y, rng=rng),
        "spearshield, every step": lambda: replace(attack, early_stop=False)(fast, x, y, rng=rng),
        "torchattacks": lambda: torchattacks(plain, x, y, options.eps),
        "foolbox": lambda: foolbox(plain, x, y, options.eps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    broken: dict[str, Tensor] = {}
    for round_ in range(options.rounds):
        for name, make in contestants.items():
            torch.manual_seed(options.seed)
            began = time.process_time()
            x_adv = make()
            seconds[name].append(time.process_time() - began)
            broken[name] = errs(plain, x_adv, y)
            assert threat.contains(x_adv, x).all()
        print("round", round_ + 1, "of", options.rounds, flush=True)
    slowest = statistics.median(seconds["torchattacks"])
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
            "times_torchattacks": round(slowest / statistics.median(seconds[name]), 2),
            "torch": torch.__version__,
        }
        for name in contestants
    ]
    for row in rows:
        print(row)
    write_json(options.out, rows)


def torchattacks(victim: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    import torchattacks

    attack = torchattacks.PGD(victim, eps=eps, alpha=eps / 30, steps=STEPS, random_start=True)
    made: Tensor = attack(x, y)
    return made


def foolbox(victim: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    import foolbox as fb

    attack = fb.attacks.LinfProjectedGradientDescentAttack(steps=STEPS, rel_stepsize=1 / 30)
    _, x_adv, _ = attack(fb.PyTorchModel(victim, (0, 1), device="cpu"), x, y, epsilons=eps)
    made: Tensor = x_adv
    return made


@torch.no_grad()
def errs(victim: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    wrong: Tensor = victim(x_adv).argmax(1) != y
    return wrong


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
