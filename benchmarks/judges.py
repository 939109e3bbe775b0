"""Our judge beside other tools', on the same victim, images and budget, one after the other.

    python benchmarks/judges.py RUN/METHOD --eps 0.3 --out FILE
    python benchmarks/judges.py --classifier resnet20 --weights FILE --data cifar10_jpeg \\
        --eps 0.0314 --out FILE

Each judge gets the victim as it is, purifier included. Time is that of the process, on one thread.
The tools are optional: ``pip install pyautoattack foolbox adversarial-robustness-toolbox``.
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
from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run, reopen
from spearshield.judging.battery import BATTERIES
from spearshield.judging.evaluation import evaluate
from spearshield.judging.judge import Judge, overall
from spearshield.judging.score import wilson
from spearshield.method import Defended, Outcome
from spearshield.storage.atomic import write_json
from spearshield.threat import Linf

Broken = Tensor
"""Which images a judge broke, those that are wrong before the attack included."""
OURS = ("spearshield", "auto_attack")


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    run = opened(options)
    outcome = run.outcomes[run.chosen[-1]]
    victim, examples = outcome.defended, run.images[: options.images]
    theirs = victim
    if options.default_layout:
        theirs = copy.deepcopy(victim).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    x, y = examples.images(), examples.y
    with torch.no_grad():
        wrong = victim(x).argmax(1) != y
    judges: dict[str, Callable[[], Broken]] = {
        "spearshield": lambda: spearshield(run, outcome, examples, options),
        "auto_attack": lambda: auto_attack(victim, examples, options),
        "pyautoattack": lambda: pyautoattack(theirs, x, y, options),
        "foolbox": lambda: foolbox(theirs, x, y, options),
        "art": lambda: art(theirs, x, y, options),
    }
    rows, found = [], {}
    for name in options.judge or judges:
        began = time.process_time()
        broken = wrong | judges[name]()
        seconds = time.process_time() - began
        found[name] = broken
        standing = int((~broken).sum())
        interval = wilson(standing, len(y))
        rows.append(
            {
                "judge": name,
                "version": "this" if name in OURS else version(name),
                "victim": run.chosen[-1] if options.victim else options.classifier,
                "classifier": str(run.recipe.classifier),
                "weights": Path(run.recipe.weights).name,
                "data": options.data or run.recipe.data.__class__.__name__.lower(),
                "images": len(y),
                "threat": "Linf",
                "eps": options.eps,
                "seed": options.seed,
                "acc": 1 - float(wrong.double().mean()),
                "robust_acc": standing / len(y),
                "interval": [interval.low, interval.high],
                "process_seconds": round(seconds, 1),
                "default_layout": options.default_layout and name not in OURS,
                "torch": torch.__version__,
            }
        )
        print(rows[-1], flush=True)
    for row in rows:
        others = [found[name] for name in found if name != row["judge"]]
        alone = found[row["judge"]] & ~torch.stack(others).any(0) if others else wrong & ~wrong
        row["broken_only_here"] = int(alone.sum())
        if "spearshield" in found:
            row["broken_unlike_ours"] = int((found[row["judge"]] & ~found["spearshield"]).sum())
    write_json(options.out, rows)


def spearshield(run: Run, outcome: Outcome, examples: Examples, options: Any) -> Broken:
    """The standard battery, without the examination of the victim."""
    trials = BATTERIES["standard"](Linf(options.eps), examples.classes)
    recipe = replace(run.recipe, trials=trials, seed=options.seed)
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(recipe, "benchmark", Path(folder), examples)
        score = overall([score for _, score in judge.measured("victim", outcome)])
    return ~score.robust


def auto_attack(victim: Defended, examples: Examples, options: Any) -> Broken:
    """Our AutoAttack, standard version."""
    score = evaluate(victim, AutoAttack(Linf(options.eps)), examples, seed=options.seed)
    return ~score.robust


def pyautoattack(victim: nn.Module, x: Tensor, y: Tensor, options: Any) -> Broken:
    """AutoAttack, standard version."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(victim, norm="Linf", eps=options.eps, seed=options.seed, device="cpu")
    attacked = attack.run_standard_evaluation(x, y, batch_size=250)
    x_adv = attacked[0] if isinstance(attacked, tuple) else attacked
    return errs(victim, x_adv, y)


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
            broken[part] |= errs(victim, x_adv, y[part])
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
        broken |= errs(victim, x_adv, y)
    return broken


@torch.no_grad()
def errs(victim: nn.Module, x_adv: Tensor, y: Tensor) -> Broken:
    return victim(x_adv.float()).argmax(1) != y


def opened(options: Any) -> Run:
    """The run that the victim belongs to."""
    if options.victim:
        folder = options.victim.parent
        return replace(reopen(folder), trained=folder, only=options.victim.name)
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
        help="hand the other tools the victim in PyTorch's own memory layout, as users do",
    )
    words.add_argument("--judge", action="append", help="again for more; default: all")
    words.add_argument("--out", type=Path, required=True)
    return words


if __name__ == "__main__":
    main()
