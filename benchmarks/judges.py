"""Compare the batteries with other tools on the same victim, images and budget.

    python benchmarks/judges.py SHIELD --data mnist --threat L2 --eps 1.5 --out FILE
    python benchmarks/judges.py --classifier resnet20 --weights FILE --data cifar10_jpeg \\
        --threat Linf --eps 0.0314 --out FILE

Every judge attacks the whole victim, purifier included. Times are process times on one thread.
Judges whose results FILE already holds are not run again, unless ``--judge`` names them. The tools
are optional: ``pip install pyautoattack foolbox``.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spearshield import load
from spearshield.adversary import Attack
from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.attacks.pgd import PGD
from spearshield.classifiers import architecture
from spearshield.dataset import Examples, Split
from spearshield.datasets import dataset
from spearshield.judging.battery import BATTERIES
from spearshield.judging.evaluation import EvaluationSettings, evaluate
from spearshield.judging.judge import Judge
from spearshield.judging.score import Score, worst_case
from spearshield.method import Outcome
from spearshield.storage.atomic import write_json
from spearshield.storage.weights import load_weights
from spearshield.threat import L2, ThreatModel
from spearshield.types import Images

Broken = Tensor
"""Mask of the images that a judge broke. Images misclassified without an attack are added later."""
STEPS = 1000
"""Steps of PGD, FMN and DDN."""
PACKAGES = ("spearshield", "torch", "pyautoattack", "foolbox")


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    case = Case.of(options)
    rows: dict[str, dict[str, Any]] = {}
    if options.out.exists():
        known = json.loads(options.out.read_text(encoding="utf-8"))
        rows = {row["judge"]: row for row in known}
    for name, judge in judges(case).items():
        if name in (options.judge or judges(case).keys() - rows.keys()):
            began = time.process_time()
            broken = case.broken(case.x) | judge()
            rows[name] = case.row(name, broken, time.process_time() - began)
            print({k: v for k, v in rows[name].items() if k != "broken"}, flush=True)
            write_json(options.out, list(rows.values()))


@dataclass(frozen=True, eq=False)
class Case:
    """A victim, the images and the budget.

    Args:
        name: The name of the victim.
        data: The name of the data set.
        layout: The memory layout in which the other tools get the victim. Ours get it in channels
            last, as an audit does.
    """

    name: str
    data: str
    outcome: Outcome
    examples: Examples
    threat: ThreatModel
    seed: int
    layout: torch.memory_format

    @classmethod
    def of(cls, options: Any, split: Split = "test") -> Case:
        examples = dataset(options.data).load(split)[: options.images]
        if options.victim:
            shield = load(options.victim)
            outcome, name = Outcome(shield.classifier, shield.purifier), options.victim.name
        else:
            network = architecture(options.classifier).build(examples.shape, examples.classes)
            load_weights(network, options.weights)
            outcome, name = Outcome(network.eval()), options.weights.stem
        outcome.defended.requires_grad_(False).to(memory_format=torch.channels_last)
        threat = ThreatModel.named(options.threat, options.eps)
        layout = torch.contiguous_format if options.default_layout else torch.channels_last
        return cls(name, options.data, outcome, examples, threat, options.seed, layout)

    @cached_property
    def x(self) -> Images:
        """The clean images."""
        return self.examples.images()

    @property
    def theirs(self) -> nn.Module:
        """The victim for other tools."""
        return copy.deepcopy(self.outcome.defended).to(memory_format=self.layout)

    def broken(self, x_adv: Images) -> Broken:
        """The images that are misclassified and within the budget."""
        with torch.no_grad():
            wrong = self.outcome.defended(x_adv.float()).argmax(1) != self.examples.y
        return wrong & self.threat.contains(x_adv, self.x)

    def row(self, name: str, broken: Broken, seconds: float) -> dict[str, Any]:
        """The result of one judge."""
        return {
            "judge": name,
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "victim": self.name,
            "data": self.data,
            "images": len(broken),
            "threat": self.threat.norm,
            "eps": self.threat.eps,
            "seed": self.seed,
            "acc": float((~self.broken(self.x)).double().mean()),
            "robust_acc": float((~broken).double().mean()),
            "process_seconds": round(seconds, 1),
            "default_layout": self.layout is torch.contiguous_format,
            "broken": mask_text(broken),
        }


def judges(case: Case) -> dict[str, Callable[[], Broken]]:
    """The judges for the norm of the case, by name."""
    threat = case.threat
    pgd = PGD(threat, steps=STEPS, step_size=threat.eps / 50, restarts=2)
    found: dict[str, Callable[[], Broken]] = {
        "standard": lambda: battery("standard", case),
        "quick": lambda: battery("quick", case),
        "pyautoattack": lambda: pyautoattack(case),
        "pgd_1000": lambda: attack_with(pgd, case),
    }
    if not isinstance(threat, L2):
        return {**found, "fmn": lambda: foolbox("LInfFMNAttack", case)}
    strong = CarliniWagner(threat, steps=300, lr=0.03, searches=6, initial_c=1.0)
    return {
        **found,
        "fmn": lambda: foolbox("L2FMNAttack", case),
        "ddn": lambda: foolbox("DDNAttack", case),
        "carlini_wagner": lambda: attack_with(strong, case),
    }


def battery(name: str, case: Case) -> Broken:
    """One of our batteries, without the checks that examine the victim."""
    trials = BATTERIES[name](case.threat, case.examples.classes)
    settings = EvaluationSettings(case.seed)
    scores: list[Score] = []
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(trials, case.examples, Path(folder), settings, about={}, parameters={})
        for trial, score in judge.scores("victim", case.outcome):
            scores.append(score)
            print(
                f"  {100 * score.robust_acc:5.1f} {score.seconds:6.1f} s {trial.attack}", flush=True
            )
    return ~worst_case(scores).robust


def attack_with(attack: Attack, case: Case) -> Broken:
    """One of our attacks."""
    settings = EvaluationSettings(case.seed)
    return ~evaluate(case.outcome.defended, attack, case.examples, settings=settings).robust


def pyautoattack(case: Case) -> Broken:
    """The standard version of AutoAttack."""
    from pyautoattack import AutoAttack

    norm, eps = case.threat.norm, case.threat.eps
    attack = AutoAttack(case.theirs, norm=norm, eps=eps, seed=case.seed, device="cpu")
    attacked = attack.run_standard_evaluation(case.x, case.examples.y, batch_size=250)
    return case.broken(attacked[0] if isinstance(attacked, tuple) else attacked)


def foolbox(name: str, case: Case) -> Broken:
    """An attack of Foolbox that minimises the perturbation."""
    import foolbox as fb

    torch.manual_seed(case.seed)
    model = fb.PyTorchModel(case.theirs, bounds=(0, 1), device="cpu")
    attack = getattr(fb.attacks, name)(steps=STEPS)
    parts = zip(case.x.split(250), case.examples.y.split(250), strict=True)
    attacked = [attack(model, x, y, epsilons=case.threat.eps)[1] for x, y in parts]
    return case.broken(torch.cat(attacked))


def mask_text(mask: Tensor) -> str:
    """A mask as text: 1 for true, 0 for false."""
    return "".join(str(int(value)) for value in mask)


def parser(about: str) -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=about.splitlines()[0])
    words.add_argument("victim", nargs="?", type=Path, metavar="SHIELD")
    words.add_argument("--classifier")
    words.add_argument("--weights", type=Path)
    words.add_argument("--data", required=True)
    words.add_argument("--threat", choices=[*ThreatModel.norms()], required=True)
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
