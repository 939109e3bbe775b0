"""A run of a recipe whose trainings and evaluations are processes that share one machine.

    python benchmarks/parallel_run.py gan_adversarial_training_mnist --seed 0 --workers 4 \
        --device cuda --out runs/gat-0

Rows, weights and folders are those of ``spearshield run`` with the same recipe, seed and changes.
No training of the recipe may need another one, except the pretraining. The same command resumes an
interrupted run.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from classifier_graphs import classifier_graphs

from spearshield.cli.options import recipe as chosen_recipe
from spearshield.experiment.folders import RESULTS
from spearshield.experiment.opened import open_run
from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run
from spearshield.judging.provenance import command
from spearshield.report import write_report
from spearshield.storage.atomic import write_json


def main() -> None:
    options = parser().parse_args()
    words = sys.argv[1:-2] if options.train or options.evaluate else sys.argv[1:]
    command.set(shlex.join(["python", "benchmarks/parallel_run.py", *words]))
    recipe = chosen_recipe(options)
    if options.train:
        train_one(recipe, options)
    elif options.evaluate:
        evaluate_one(options)
    else:
        run(recipe, options)


def run(recipe: Recipe, options: argparse.Namespace) -> None:
    """The whole run: the pretraining, all trainings, all rows."""
    pretraining, *others = recipe.trainings
    if not (options.out / pretraining).exists():
        train(replace(recipe, defences=(), trials=()), part(options, pretraining), options)
        keep(options, pretraining)
    for_each([name for name in others if not (options.out / name).exists()], "--train", options)
    for name in others:
        keep(options, name)
    Run(recipe, options.recipe, options.out, device=options.device).train()
    for_each([*recipe.trainings], "--evaluate", options)
    rows: list[Any] = []
    for name in recipe.trainings:
        rows += json.loads((part(options, name) / "rows" / RESULTS).read_text())
    write_json(options.out / RESULTS, rows)
    write_report([options.out], options.out)


def train_one(recipe: Recipe, options: argparse.Namespace) -> None:
    """One training in a folder of its own, after a copy of the pretraining."""
    pretraining, *_ = recipe.trainings
    folder = part(options, options.train)
    shutil.copytree(options.out / pretraining, folder / pretraining, dirs_exist_ok=True)
    training = recipe.trainings[options.train]
    assert training is not None
    train(replace(recipe, defences=(training,), trials=()), folder, options)


def train(recipe: Recipe, folder: Path, options: argparse.Namespace) -> None:
    """The trainings of a recipe, whose steps are replayed as CUDA graphs with ``--graphs``."""
    with classifier_graphs() if options.graphs else nullcontext():
        Run(recipe, options.recipe, folder, device=options.device).train()


def evaluate_one(options: argparse.Namespace) -> None:
    """The rows of one training of the finished run."""
    trained = open_run(options.out / options.evaluate, device=options.device)
    replace(trained, folder=part(options, options.evaluate) / "rows").evaluate()


def for_each(names: list[str], step: str, options: argparse.Namespace) -> None:
    """Do one step for each training, in processes of which ``--workers`` run at a time."""
    words = [sys.executable, *sys.argv]

    def process(name: str) -> None:
        subprocess.run([*words, step, name], check=True)

    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(process, names))


def part(options: argparse.Namespace, name: str) -> Path:
    """The folder of the processes of one training, beside the run."""
    folder: Path = options.out.with_name(options.out.name + "-parts") / name
    return folder


def keep(options: argparse.Namespace, name: str) -> None:
    """Move a finished training from its own folder to the run."""
    made = part(options, name) / name
    if made.exists() and not (options.out / name).exists():
        options.out.mkdir(parents=True, exist_ok=True)
        shutil.move(made, options.out / name)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("recipe", metavar="RECIPE")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="FIELD=VALUE"
    )
    options.add_argument("--workers", type=int, default=2, help="processes at a time")
    options.add_argument("--device", default="cpu")
    options.add_argument("--graphs", action="store_true", help="see classifier_graphs.py")
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--train", default="", help=argparse.SUPPRESS)
    options.add_argument("--evaluate", default="", help=argparse.SUPPRESS)
    return options


if __name__ == "__main__":
    main()
