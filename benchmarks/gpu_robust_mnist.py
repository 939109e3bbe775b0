"""Robust training on MNIST on one GPU, in a given time: trainings, rows and batteries.

    python benchmarks/gpu_robust_mnist.py --seconds 600 --out runs/gpu_robust_mnist

In the order of their importance, with several processes at a time:

    robust          the recipe ``robust_mnist``
    wide            the same with networks of twice the width, on images that are warped more
    untransformed   a source of transferred attacks
    learned-S       the recipe ``learned_adversary_mnist`` for three seeds
    family-S        the recipe ``gan_adversarial_training_mnist`` for three seeds
    audit-...       the standard battery, 1,000 test images, for each of these trainings

Training steps are replayed as CUDA graphs, see ``classifier_graphs.py``. Run the CUDA
Multi-Process Service (``nvidia-cuda-mps-control -d``) first, so that the processes share the GPU
well. The same command resumes the trainings and the audits that were stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from jobs import Job, run_jobs

from spearshield.recipes.gan_adversarial_training_mnist import RECIPE as FAMILY
from spearshield.recipes.gan_adversarial_training_mnist import SOURCES

BENCHMARKS = Path(__file__).parent.resolve()
SEEDS = (0, 1, 2)

NETWORK, METHOD = "classifier.width", "defences.robust.method.member"
WARP = {"rotation": "12", "zoom": "0.12", "elastic": "0.8"}
WIDE = [f"{NETWORK}=64", *(f"{METHOD}.augmentation.warp.{k}={v}" for k, v in WARP.items())]
SHORT = ["images=20", "pretraining.steps=5"]
"""Changes with which the script is tried; each training then has few steps."""


def main() -> None:
    options = parser().parse_args()
    ends = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    os.chdir(options.out)
    run_jobs([*jobs(options)], options.workers, ends, {"NVIDIA_TF32_OVERRIDE": "0"})


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """The trainings, and then the audits of each."""
    learned, family = "learned_adversary_mnist", "gan_adversarial_training_mnist"
    players = ["learned_adversary", "pgd"]
    defences = [one.display_name for one in FAMILY.defences]
    audited = [one.display_name for one in FAMILY.defences if one not in SOURCES]
    yield run(options, "robust", "robust_mnist", 0, [], ["robust"])
    yield run(options, "wide", "robust_mnist", 0, WIDE, ["robust"])
    source = ["classifier=strided_cnn", "defences=pgd"]
    yield run(options, "untransformed", learned, 0, source, ["pgd"])
    yield from (run(options, f"learned-{seed}", learned, seed, [], players) for seed in SEEDS)
    yield from (run(options, f"family-{seed}", family, seed, [], defences) for seed in SEEDS)
    for name in ("robust", "wide"):
        yield audit(options, name, "robust", source="untransformed")
    for seed in SEEDS:
        yield from (audit(options, f"learned-{seed}", player) for player in players)
    for seed in SEEDS:
        yield from (audit(options, f"family-{seed}", defence) for defence in audited)


def run(
    options: argparse.Namespace,
    name: str,
    recipe: str,
    seed: int,
    changes: list[str],
    names: list[str],
) -> Job:
    """A run of a recipe, with each of the trainings ``names`` in a process of its own."""
    changes = [*changes, f"batch_size={options.batch_size}"]
    if options.short:
        changes = [*changes, *SHORT, *(f"defences.{one}.steps=4" for one in names)]
    workers = min(4, len(names))
    command = [sys.executable, str(BENCHMARKS / "parallel_run.py"), recipe, "--seed", str(seed)]
    command += ["--workers", str(workers), "--graphs", "--device", options.device]
    for change in changes:
        command += ["--set", change]
    return Job(name, [*command, "--out", f"runs/{name}"], workers=workers)


def audit(options: argparse.Namespace, name: str, training: str, source: str = "") -> Job:
    """The standard battery against one training, with images of ``pgd`` of the run ``source``."""
    images = "20" if options.short else "1000"
    command = [sys.executable, "-m", "spearshield", "audit", f"runs/{name}/{training}"]
    command += ["--effort", "standard", "--images", images, "--device", options.device]
    command += ["--transfer-from", f"runs/{source}/pgd"] if source else []
    command += ["--batch-size", str(options.batch_size), "--out", f"runs/audit-{name}-{training}"]
    return Job(f"audit-{name}-{training}", command, (name, source) if source else (name,))


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    options.add_argument("--seconds", type=float, required=True, help="time for everything")
    options.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    options.add_argument("--workers", type=int, default=14, help="processes at a time")
    options.add_argument("--batch-size", type=int, default=1_000, help="images attacked at a time")
    options.add_argument("--short", action="store_true", help="few steps, to try the script")
    return options


if __name__ == "__main__":
    main()
