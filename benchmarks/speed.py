"""Compare two versions of this package: time of evaluations, attacks and trainings, and memory.

    git worktree add ../before COMMIT
    python benchmarks/speed.py --before ../before/src --work DIR --out docs/results/speed/speed.json
    python benchmarks/speed.py --before ../before/src --work DIR --memory 1000 10000 55000 \\
        --out docs/results/speed/memory.json

Each round runs one process of each version, in turn, on one thread. A time is the process time of
the fastest round. ``hand-written`` is a plain loop in this file on the same network and images; the
share of its speed is the median over the rounds, in which both alternate from batch to batch.
The networks are trained for a few hundred steps and kept in DIR, so both versions load the same
weights. Memory is the growth of the resident set of one process during one evaluation. Rows that
the file of ``--out`` already has are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers import architecture
from spearshield.dataset import Examples
from spearshield.datasets import dataset
from spearshield.gradients import finite
from spearshield.judging.evaluation import EvaluationSettings, evaluate
from spearshield.judging.judge import Judge
from spearshield.judging.provenance import processor, versions
from spearshield.judging.results import Row
from spearshield.judging.similarity import ssim
from spearshield.judging.trial import Trial
from spearshield.method import Defended, Outcome, Task
from spearshield.methods.ape_gan import APEGAN
from spearshield.methods.dae import DAE
from spearshield.methods.standard_training import StandardTraining
from spearshield.rng import Rng
from spearshield.storage.atomic import write_json
from spearshield.storage.weights import load_weights, save_weights
from spearshield.threat import Linf
from spearshield.training.loop import Training, train

NETWORKS = {"lenet": ("mnist", 400, 0.12, 40), "resnet20": ("cifar10_jpeg", 300, 2 / 255, 10)}
"""Data set, training steps, budget and steps of PGD for each network."""


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(1)
    if options.part:
        print(json.dumps(measured(options.part, options.images, options.work)))
        return
    for name in NETWORKS:
        network(name, options.work)
    trees = {"before": options.before, "after": Path(__file__).parents[1] / "src"}
    about = {"versions": versions(), "processor": processor(), "rounds": options.rounds}
    rows: list[dict[str, Any]] = []
    if options.out.exists():
        rows = json.loads(options.out.read_text(encoding="utf-8"))["rows"]
    known = {(each["part"], each["images"]) for each in rows}
    for part in ["memory"] if options.memory else [*PARTS]:
        for count in options.memory or [options.images]:
            if (part, count) not in known:
                rows.append(row(trees, part, count, options))
                write_json(options.out, {**about, "rows": rows})


def row(
    trees: dict[str, Path], part: str, count: int, options: argparse.Namespace
) -> dict[str, Any]:
    """The figures of one part in both versions."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for _ in range(1 if part == "memory" else options.rounds):
        for name, source in trees.items():
            words = ["--part", part, "--images", str(count), "--work", str(options.work)]
            made = subprocess.run(
                [sys.executable, __file__, *words, "--before", ".", "--out", "."],
                env=os.environ | {"PYTHONPATH": str(source)},
                check=True,
                capture_output=True,
                text=True,
            )
            found[name].append(json.loads(made.stdout.splitlines()[-1]))
    best = {
        f"{name}, {figure}": round(min(one[figure] for one in rounds), 4)
        for name, rounds in found.items()
        for figure in rounds[0]
    }
    shares = {
        f"{name}, share of the hand-written speed": round(median(map(share, rounds)), 3)
        for name, rounds in found.items()
        if "hand-written" in rounds[0]
    }
    print(part, count, best, shares, flush=True)
    return {"part": part, "images": count, **best, **shares}


def share(figures: dict[str, float]) -> float:
    """The speed of an attack, as a share of the speed of a hand-written loop in the same round."""
    return figures["hand-written"] / figures["seconds"]


def network(name: str, work: Path) -> nn.Module:
    """A classifier in evaluation mode, trained for a few hundred steps."""
    data, steps, *_ = NETWORKS[name]
    path = work / f"{name}.safetensors"
    images = dataset(data).load("test" if path.exists() else "train")
    built = architecture(name).build(images.shape, images.classes)
    if not path.exists():
        task = Task(built, built, images.shape, images.classes)
        learner = train(Training(StandardTraining(), steps), task, lambda: images, seed=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(learner.outcome().classifier, path)
    load_weights(built, path)
    return built.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def test_images(name: str, count: int) -> Examples:
    """The first test images of the data set of a network, or training images if there are more."""
    split = "test" if count <= 10_000 else "train"
    return dataset(NETWORKS[name][0]).load(split)[:count]  # type: ignore[arg-type]


def seconds(run: Callable[[], object]) -> float:
    """Process time of one call, after one call that is not measured."""
    run()
    began = time.process_time()
    run()
    return time.process_time() - began


def fgsm(purified: bool, count: int, work: Path) -> dict[str, float]:
    """The evaluation of FGSM on a classifier, alone or behind a denoising autoencoder."""
    images, bare = test_images("lenet", count), network("lenet", work)
    victim = Defended(nn.Identity(), bare).eval()
    if purified:
        task = Task(bare, bare, images.shape, images.classes)
        victim = DAE().learner(task).outcome().defended
    return {"seconds": seconds(lambda: evaluate(victim, FGSM(Linf(0.3)), images))}


def audit(count: int, work: Path) -> dict[str, float]:
    """The rows of FGSM with three budgets on a classifier."""
    images, bare = test_images("lenet", count), network("lenet", work)
    trials = tuple(Trial(FGSM(Linf(eps))) for eps in (0.1, 0.2, 0.3))
    about = {"recipe": "speed", "data": "mnist", "split": "test", "classifier": "lenet"}

    def rows() -> list[Row]:
        with TemporaryDirectory() as folder:
            judge = Judge(trials, images, Path(folder), EvaluationSettings(), about, {})
            return [*judge.rows("lenet", Outcome(bare))]

    return {"seconds": seconds(rows)}


def similarity(shape: tuple[int, int, int], count: int) -> dict[str, float]:
    """Structural similarity of pairs of noise."""
    x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))
    return {"seconds": seconds(lambda: ssim(x, 1 - x))}


def finite_check(count: int) -> dict[str, float]:
    """The check of a gradient, a hundred times."""
    x = torch.rand(count, 1, 28, 28)
    return {"seconds": seconds(lambda: [finite(x) for _ in range(100)])}


def pgd(name: str, early_stop: bool, count: int, work: Path) -> dict[str, float]:
    """PGD, and a hand-written loop with the same random starts, batch by batch."""
    _, _, eps, steps = NETWORKS[name]
    model, threat = network(name, work).requires_grad_(False), Linf(eps)
    attack = PGD(threat, steps=steps, step_size=eps / 10, early_stop=early_stop)
    images, spent, broken = test_images(name, count), [0.0, 0.0], [0, 0]
    for start in range(0, len(images), 250):
        part = images[start : start + 250]
        x, rng = part.images(), Rng(0, part.ids)
        y = model(x).argmax(1)  # all images count, however short the training was
        x_start = threat.random_start(x, rng.fold(0))
        contestants = (
            partial(attack, model, x, y, rng=rng),
            partial(stopping_loop if early_stop else plain_loop, model, x, y, x_start, eps, steps),
        )
        for run in contestants if start == 0 else ():
            run()
        order = (0, 1) if start % 500 else (1, 0)  # the second one finds a warmer cache
        for i, run in ((i, contestants[i]) for i in order):
            began = time.process_time()
            x_adv = run()
            spent[i] += time.process_time() - began
            broken[i] += int((model(x_adv).argmax(1) != y).sum())
    assert abs(broken[0] - broken[1]) <= len(images) / 100, broken
    return {"seconds": spent[0], "hand-written": spent[1]}


def plain_loop(
    model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, eps: float, steps: int
) -> Tensor:
    """PGD as a user would write it."""
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        loss = cross_entropy(model(x_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x_adv)
        x_adv = x_adv.detach() + eps / 10 * gradient.sign()
        x_adv = (x + (x_adv - x).clamp(-eps, eps)).clamp(0, 1)
    return x_adv


def stopping_loop(
    model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, eps: float, steps: int
) -> Tensor:
    """The same loop, in which an image leaves as soon as it is misclassified."""
    with torch.no_grad():
        left = (model(x).argmax(1) == y).nonzero().squeeze(1)
    found = x.clone()
    found[left] = x_adv[left]
    for _ in range(steps):
        now = found[left].requires_grad_()
        logits = model(now)
        (gradient,) = torch.autograd.grad(cross_entropy(logits, y[left], reduction="sum"), now)
        right = logits.argmax(1) == y[left]
        left, moved = left[right], now.detach()[right] + eps / 10 * gradient[right].sign()
        if len(left) == 0:
            break
        found[left] = (x[left] + (moved - x[left]).clamp(-eps, eps)).clamp(0, 1)
    return found


def training(count: int, work: Path) -> dict[str, float]:
    """Twenty steps of APE-GAN, which attacks the classifier in each step."""
    images = dataset("mnist").load("train")[:count]
    built = network("lenet", work).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    task = Task(built, built, images.shape, images.classes, PGD(Linf(0.3), steps=7))
    schedule = Training(APEGAN(), 20, task.attack)
    return {"seconds": seconds(lambda: train(schedule, task, lambda: images, seed=0))}


def memory(count: int, work: Path) -> dict[str, float]:
    """Growth of the resident set while PGD is evaluated, in MB."""
    images, victim = test_images("lenet", count), Defended(nn.Identity(), network("lenet", work))
    victim.eval()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    evaluate(victim, PGD(Linf(0.12), steps=10), images)
    return {"MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000}


PARTS: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "evaluation of FGSM, LeNet": lambda n, work: fgsm(False, n, work),
    "evaluation of FGSM behind a purifier, LeNet": lambda n, work: fgsm(True, n, work),
    "rows of FGSM with three budgets, LeNet": audit,
    "SSIM, 28 x 28": lambda n, _: similarity((1, 28, 28), n),
    "SSIM, 3 x 32 x 32": lambda n, _: similarity((3, 32, 32), n),
    "check of 100 gradients": lambda n, _: finite_check(n),
    "PGD, LeNet, every step": lambda n, work: pgd("lenet", False, n, work),
    "PGD, LeNet, early stop": lambda n, work: pgd("lenet", True, n, work),
    "PGD, ResNet-20, every step": lambda n, work: pgd("resnet20", False, n, work),
    "PGD, ResNet-20, early stop": lambda n, work: pgd("resnet20", True, n, work),
    "20 training steps of APE-GAN, LeNet": training,
}


def measured(part: str, count: int, work: Path) -> dict[str, float]:
    """The figures of one part in this process."""
    return memory(count, work) if part == "memory" else PARTS[part](count, work)


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--before", type=Path, required=True, metavar="SRC")
    words.add_argument("--work", type=Path, required=True, metavar="DIR")
    words.add_argument("--images", type=int, default=500)
    words.add_argument("--memory", type=int, nargs="+", metavar="N")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--part", help="measure this part in this process, and print it")
    words.add_argument("--out", type=Path, required=True, metavar="FILE")
    return words


if __name__ == "__main__":
    main()
