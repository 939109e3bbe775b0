"""Compare the judge with other tools on the same victim, images and budget, one after the other.

    python benchmarks/judges.py RUN/METHOD --eps 0.3 --out FILE
    python benchmarks/judges.py --classifier resnet20 --weights FILE --data cifar10_jpeg \\
        --eps 0.0314 --out FILE

Every judge attacks the whole victim, purifier included. Times are process times on one thread. The
tools are optional: ``pip install pyautoattack foolbox adversarial-robustness-toolbox``.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spearshield.attacks.auto_attack import AutoAttack
from spearshield.classifiers import architecture
from spearshield.dataset import Examples
from spearshield.datasets import dataset
from spearshield.discover import name_of
from spearshield.experiment.opened import open_run
from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run
from spearshield.judging.battery import BATTERIES
from spearshield.judging.evaluation import EvaluationSettings, evaluate
from spearshield.judging.judge import Judge
from spearshield.judging.score import wilson, worst_case
from spearshield.method import Defended, Outcome
from spearshield.storage.atomic import write_json
from spearshield.threat import Linf

Broken = Tensor
"""Mask of the images that a judge broke. Images misclassified without an attack are added later."""
OURS = ("spearshield", "auto_attack")


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    run = opened(options)
    outcome, examples = run.outcome, run.images[: options.images]
    victim = outcome.defended
    theirs = victim
    if options.default_layout:
        theirs = copy.deepcopy(victim).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    x, y = examples.images(), examples.y
    misclassified_clean = misclassified(victim, x, y)
    judges: dict[str, Callable[[], Broken]] = {
        "spearshield": lambda: spearshield(run, outcome, examples, options),
        "auto_attack": lambda: auto_attack(victim, examples, options),
        "pyautoattack": lambda: pyautoattack(theirs, x, y, options),
        "foolbox": lambda: foolbox(theirs, x, y, options),
        "art": lambda: art(theirs, x, y, options),
    }
    rows, broken = [], {}
    for name in options.judge or judges:
        began = time.process_time()
        broken[name] = misclassified_clean | judges[name]()
        seconds = time.process_time() - began
        rows.append(row(name, run, options, misclassified_clean, broken[name], seconds))
        print(rows[-1], flush=True)
    compare(rows, broken)
    write_json(options.out, rows)


def row(
    name: str, run: Run, options: Any, wrong: Tensor, broken: Broken, seconds: float
) -> dict[str, Any]:
    """The result of one judge."""
    robust = int((~broken).sum())
    interval = wilson(robust, len(broken))
    return {
        "judge": name,
        "version": "this" if name in OURS else version(name),
        "victim": run.selected_names[-1] if options.victim else options.classifier,
        "classifier": str(run.recipe.classifier),
        "weights": Path(run.recipe.weights).name,
        "data": options.data or name_of(run.recipe.data),
        "images": len(broken),
        "threat": "Linf",
        "eps": options.eps,
        "seed": options.seed,
        "acc": 1 - float(wrong.double().mean()),
        "robust_acc": robust / len(broken),
        "interval": [interval.low, interval.high],
        "process_seconds": round(seconds, 1),
        "default_layout": options.default_layout and name not in OURS,
        "torch": torch.__version__,
    }


def compare(rows: list[dict[str, Any]], broken: dict[str, Broken]) -> None:
    """Add to each row how many images only this judge broke, and how many ours did not."""
    for each in rows:
        mine = broken[each["judge"]]
        others = [mask for name, mask in broken.items() if name != each["judge"]]
        alone = mine & ~torch.stack(others).any(0) if others else torch.zeros_like(mine)
        each["broken_only_here"] = int(alone.sum())
        if "spearshield" in broken:
            each["broken_unlike_ours"] = int((mine & ~broken["spearshield"]).sum())


def spearshield(run: Run, outcome: Outcome, examples: Examples, options: Any) -> Broken:
    """The standard battery, without the checks that examine the victim."""
    trials = BATTERIES["standard"](Linf(options.eps), examples.classes)
    settings = EvaluationSettings(options.seed, run.recipe.draws, run.recipe.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(trials, examples, Path(folder), settings, about={}, parameters={})
        score = worst_case([score for _, score in judge.scores("victim", outcome)])
    return ~score.robust


def auto_attack(victim: Defended, examples: Examples, options: Any) -> Broken:
    """The standard version of this package's AutoAttack."""
    settings = EvaluationSettings(options.seed)
    return ~evaluate(victim, AutoAttack(Linf(options.eps)), examples, settings=settings).robust


def pyautoattack(victim: nn.Module, x: Tensor, y: Tensor, options: Any) -> Broken:
    """The standard version of AutoAttack."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(victim, norm="Linf", eps=options.eps, seed=options.seed, device="cpu")
    attacked = attack.run_standard_evaluation(x, y, batch_size=250)
    x_adv = attacked[0] if isinstance(attacked, tuple) else attacked
    return misclassified(victim, x_adv, y)


def foolbox(victim: nn.Module, x: Tensor, y: Tensor, options: Any) -> Broken:
    """The worst of FGSM, BIM and PGD of 40 steps, and DeepFool."""
    import foolbox as fb

    torch.manual_seed(options.seed)
    attacks = (
        fb.attacks.LinfFastGradientAttack(),
        fb.attacks.LinfBasicIterativeAttack(steps=40, rel_stepsize=0.1),
        fb.attacks.LinfProjectedGradientDescentAttack(steps=40, rel_stepsize=1 / 30),
        fb.attacks.LinfDeepFoolAttack(),
    )
    model = fb.PyTorchModel(victim, bounds=(0, 1), device="cpu")
    broken = torch.zeros(len(x), dtype=torch.bool)
    for attack in attacks:
        for part in torch.arange(len(x)).split(250):
            _, x_adv, _ = attack(model, x[part], y[part], epsilons=options.eps)
            broken[part] |= misclassified(victim, x_adv, y[part])
    return broken


def art(victim: nn.Module, x: Tensor, y: Tensor, options: Any) -> Broken:
    """The worst of FGSM, PGD of 40 steps and Auto-PGD of 100 steps."""
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    np.random.seed(options.seed)
    model = PyTorchClassifier(
        victim,
        nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )
    common = {"eps": options.eps, "batch_size": 250}
    auto = {**common, "eps_step": 2 * options.eps, "max_iter": 100, "nb_random_init": 1}
    attacks = (
        evasion.FastGradientMethod(model, **common),
        evasion.ProjectedGradientDescent(
            model,
            **common,
            eps_step=options.eps / 30,
            max_iter=40,
            num_random_init=1,
            verbose=False,
        ),
        evasion.AutoProjectedGradientDescent(
            model, **auto, loss_type="cross_entropy", verbose=False
        ),
    )
    broken = torch.zeros(len(x), dtype=torch.bool)
    for attack in attacks:
        x_adv = torch.from_numpy(attack.generate(x.numpy(), y.numpy()))
        broken |= misclassified(victim, x_adv, y)
    return broken


@torch.no_grad()
def misclassified(victim: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return victim(x.float()).argmax(1) != y


def opened(options: Any) -> Run:
    """The run of the victim; for a classifier with weights, a run without trainings."""
    if options.victim:
        return replace(open_run(options.victim.parent), selected=options.victim.name)
    recipe = Recipe(
        dataset(options.data), architecture(options.classifier), None, (), (), options.weights
    )
    return Run(recipe, "benchmark", Path())


def version(name: str) -> str:
    package = {"art": "adversarial-robustness-toolbox"}.get(name, name)
    return importlib.metadata.version(package)


def parser(about: str) -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=about.splitlines()[0])
    words.add_argument("victim", nargs="?", type=Path, metavar="RUN/METHOD")
    words.add_argument("--classifier")
    words.add_argument("--weights", default="")
    words.add_argument("--data")
    words.add_argument("--eps", type=float, required=True)
    words.add_argument("--images", type=int, default=1000)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument(
        "--default-layout",
        action="store_true",
        help="give the other tools the victim in PyTorch's default memory layout",
    )
    words.add_argument("--judge", action="append", help="may be repeated; default: all")
    words.add_argument("--out", type=Path, required=True)
    return words


if __name__ == "__main__":
    main()
