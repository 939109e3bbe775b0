"""What each command does: a user's words become values, one library call does the work."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import torch

from spearshield import discover
from spearshield.architecture import Architecture
from spearshield.attack import Attack
from spearshield.classifiers import architecture
from spearshield.cli import console, file_tools
from spearshield.cli.console import out
from spearshield.cli.progress_bars import bars
from spearshield.dataset import Dataset
from spearshield.datasets import dataset
from spearshield.experiment.manifest import FILE
from spearshield.experiment.overrides import override, view
from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run, reopen
from spearshield.judging import adversarial_set, results
from spearshield.judging.battery import BATTERIES, IMAGES
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.trial import Trial
from spearshield.method import Method
from spearshield.storage.serialization import dump
from spearshield.threat import L2, Linf, ThreatModel
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.loop import CHECKPOINT
from spearshield.views import View

BASES: dict[str, type] = {
    "methods": Method,
    "attacks": Attack,
    "classifiers": Architecture,
    "datasets": Dataset,
}

EXAMINED = 100
"""Images on which a battery also examines the victim itself."""

NEED_A_VICTIM = ("weights", "split", "images", "seed", "changes", "view", "format")
"""Options of `attack` that mean nothing where files are perturbed without a victim."""

FAILED, REFUSED = 1, 3
"""Exit status: something went wrong; nothing did, but the number does not pass the gate."""


def do_list(options: argparse.Namespace) -> None:
    """Print the names of everything, or of one kind."""
    kinds = [options.kind] if options.kind else [*discover.PACKAGES]
    found = {kind: discover.names(kind) for kind in kinds}
    if options.json:
        out.print_json(json.dumps(found))
        return
    for kind, names in found.items():
        out.print(f"[bold]{kind}[/bold]")
        width = max(map(len, names), default=0)
        for name, line in names.items():
            out.print(f"  {name:<{width}}  {line}", markup=False)


def do_show(options: argparse.Namespace) -> None:
    """Print the docstring, the hyper-parameters and the paper of everything of one name."""
    kinds = [kind for kind in discover.PACKAGES if options.name in discover.names(kind)]
    if not kinds:
        known = "; ".join(
            f"{kind}: {', '.join(discover.names(kind))}" for kind in discover.PACKAGES
        )
        raise ValueError(f"nothing is called {options.name!r}; there are {known}")
    for kind in kinds:
        module = discover.load(kind, options.name)
        out.print(f"{kind}/{options.name}", style="bold")
        out.print(inspect.getdoc(module) or "", markup=False)
        if kind == "recipes":
            out.print_json(json.dumps(dump(module.RECIPE)))
            continue
        thing: type = discover.find(kind, BASES[kind], options.name)
        out.print(f"\n{thing.__name__}: {inspect.getdoc(thing)}", markup=False)
        out.print("\nHyper-parameters")
        for field in fields(thing):
            default = "required" if field.default is MISSING else repr(field.default)
            out.print(f"  {field.name:<24} {default}", markup=False)
        if paper := getattr(thing, "paper", None):
            out.print(f"\n{paper.bibtex(options.name)}", markup=False)


def do_run(options: argparse.Namespace) -> None:
    """Train, attack, evaluate and report."""
    recipe = _recipe(options)
    if _dry(options, recipe):
        return
    with bars() as progress:
        rows = _run(options, recipe, progress)()
    console.table(rows)
    out.print(f"report: {_folder(options) / 'report.html'}", markup=False)


def do_train(options: argparse.Namespace) -> None:
    """The trainings of a recipe."""
    recipe = _recipe(options)
    if _dry(options, recipe):
        return
    with bars() as progress:
        made = _run(options, recipe, progress).train()
    for name in made:
        for path in sorted((_folder(options) / name).glob("*.safetensors")):
            if path.name != CHECKPOINT:
                out.print(f"weights: {path}", markup=False)


def do_evaluate(options: argparse.Namespace) -> int:
    """Judge a classifier or a trained method."""
    base = _victim(options)
    if options.battery:
        base = _battery(options, base)
        trials = base.recipe.trials
    elif options.transfer_from:
        raise ValueError("--transfer-from goes with --standard or --quick")
    elif options.attack:
        views = [view(name) for name in options.view or ["oblivious", "adaptive", "bpda"]]
        trials = tuple(t for name in options.attack for t in _trials(name, views, options, base))
    else:
        trials = base.recipe.trials
        if not trials:
            raise ValueError("name at least one --attack; `spearshield list attacks` lists them")
    trials = tuple(_changed(trial, options.changes) for trial in trials)
    judged = replace(base, recipe=replace(base.recipe, trials=trials), folder=options.out)
    if _dry(options, judged.recipe):
        return 0
    with bars() as progress:
        rows = replace(judged, progress=progress).evaluate()
    console.table(rows)
    console.findings(rows)
    return _gate(rows, options)


def do_selftest(options: argparse.Namespace) -> int:  # noqa: ARG001
    """Show that the judge flags what is wrong and leaves alone what is honest."""
    from spearshield.judging.selftest import selftest  # noqa: PLC0415 - slow, and only here

    with bars() as progress:
        judged = selftest(progress=progress)
    console.selftest(judged)
    wrong = [row.defence for row in judged if not row.passed]
    out.print(f"{len(judged) - len(wrong)} of {len(judged)} judged rightly", markup=False)
    return FAILED if wrong else 0


def do_attack(options: argparse.Namespace) -> None:
    """Write an adversarial set and judge its files; without a victim, perturb files."""
    if not (options.victim or options.classifier):
        _perturb(options)
        return
    base = _victim(options)
    (trial,) = _trials(options.attack, [view(options.view or "adaptive")], options, base)
    trial = _changed(trial, options.changes)
    if _dry(options, trial):
        return
    images = base.images
    with bars() as progress:
        victim = replace(base, progress=progress).victim
        bar = progress(f"attack: {options.attack} {trial.view}", len(images))
        verdicts = adversarial_set.write(
            options.out,
            victim,
            trial,
            images,
            form=options.format or "safetensors",
            settings=EvaluationSettings(
                base.recipe.seed, base.recipe.draws, base.recipe.batch_size, base.device
            ),
            bar=bar,
        )
    for verdict in verdicts:
        score = verdict.score
        out.print(
            f"{verdict.form:<9}  accuracy {score.acc:.2%} clean, {score.robust_acc:.2%} attacked; "
            f"largest Linf {float(score.linf.max()):.4f}, L2 {float(score.l2.max()):.3f}; "
            f"{verdict.outside} of {score.images} outside {trial.attack.threat}",
            markup=False,
        )


def _perturb(options: argparse.Namespace) -> None:
    """Perturb a folder of images or an npz by a learned attack, which needs no victim."""
    if not (options.data and _learned(options.attack)):
        raise ValueError(
            "give a run folder, or both --classifier and --data; or, of a learned attack alone, "
            "--attack RUN/METHOD and --data FOLDER or NPZ"
        )
    unused = [name for name in NEED_A_VICTIM if getattr(options, name) not in (None, [])]
    if unused:
        names = ", ".join(f"--{'set' if name == 'changes' else name}" for name in unused)
        raise ValueError(f"a learned attack that perturbs files has no use for {names}")
    base = _trained(Path(options.attack), options)
    attack = base.attack(base.selected)
    if not isinstance(attack, LearnedAttack):
        raise ValueError(
            f"{options.attack} is made on a victim: give it a run folder, or --classifier"
        )
    _check_budget(attack, options)
    if _dry(options, attack):
        return
    count = file_tools.perturb(
        attack, Path(options.data), options.out, base.data_shape[0], base.device
    )
    out.print(f"{count} images perturbed into {options.out}, {attack.threat}", markup=False)


def do_purify(options: argparse.Namespace) -> None:
    """Purify a folder of images or an npz."""
    base = _trained(options.victim, options)
    count, rejected = file_tools.purify(
        base.victim.purifiers, options.input, options.output, base.data_shape[0], base.device
    )
    refused = f"; {rejected} of them rejected" if rejected else ""
    out.print(f"{count} images purified into {options.output}{refused}", markup=False)


def do_report(options: argparse.Namespace) -> None:
    """Lay any number of runs side by side."""
    from spearshield.report import write_report  # noqa: PLC0415

    write_report(options.runs, options.out)
    out.print(f"report: {options.out / 'report.html'}", markup=False)


def _recipe(options: argparse.Namespace) -> Recipe:
    recipe: Recipe = discover.load("recipes", options.recipe).RECIPE
    return _reseeded(_changed(recipe, options.changes), options)


def _reseeded(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    return recipe if options.seed is None else replace(recipe, seed=options.seed)


def _changed(value: Any, changes: list[str]) -> Any:
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD.SUB=VALUE, got {change!r}")
        value = override(value, path.strip(), text.strip())
    return value


def _dry(options: argparse.Namespace, value: Any) -> bool:
    if options.dry_run:
        out.print_json(json.dumps(dump(value)))
    return bool(options.dry_run)


def _folder(options: argparse.Namespace) -> Path:
    folder: Path | None = options.out
    return folder or Path("runs") / str(options.recipe)


def _run(options: argparse.Namespace, recipe: Recipe, progress: Any) -> Run:
    return Run(
        recipe, options.recipe, _folder(options), options.data_dir, _device(options), progress
    )


def _device(options: argparse.Namespace) -> str:
    if options.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device is available; use --device cpu")
    return str(options.device)


def _victim(options: argparse.Namespace) -> Run:
    """What is to be attacked: a trained method, or a classifier with a data set."""
    if options.victim and options.classifier:
        raise ValueError("give a run folder or --classifier, not both")
    if options.victim:
        base = _trained(options.victim, options)
        recipe = base.recipe
        if options.weights:
            raise ValueError("--weights goes with --classifier; a run folder has its own")
    elif options.classifier and options.data:
        recipe = Recipe(
            data=dataset(options.data),
            classifier=architecture(options.classifier),
            pretraining=None,
            defences=(),
            trials=(),
            weights=options.weights or "",
        )
        base = Run(recipe, "command line", options.out, options.data_dir, _device(options))
    else:
        raise ValueError("give a run folder, or both --classifier and --data")
    if options.data and options.victim:
        recipe = replace(recipe, data=dataset(options.data))
    if options.split:
        recipe = replace(recipe, split=options.split)
    if options.victim and options.seed is not None and recipe.split == "validation":
        raise ValueError("another --seed has other validation images, some of them trained on")
    if options.images is not None:
        recipe = replace(recipe, images=options.images)
    return replace(base, recipe=_reseeded(recipe, options))


def _trained(path: Path, options: argparse.Namespace) -> Run:
    """The run that ``path``, a run folder or a training in one, belongs to."""
    whole = (path / FILE).exists()
    folder = path if whole else path.parent
    base = reopen(folder, options.data_dir, _device(options))
    return replace(base, trained=folder, selected="" if whole else path.name)


def _battery(options: argparse.Namespace, base: Run) -> Run:
    """The run with a battery for its trials, on as many images as it is meant for."""
    if options.attack or options.view:
        raise ValueError("a battery has its own attacks and views; leave out --attack and --view")
    sources = [_trained(path, options).outcome for path in options.transfer_from]
    trials = BATTERIES[options.battery](_threat(options, base), base.data_shape[1], sources)
    recipe = replace(base.recipe, trials=trials)
    if options.images is None:
        recipe = replace(recipe, images=IMAGES[options.battery])
    return replace(base, recipe=recipe, examined=EXAMINED)


def _trials(
    name: str, views: Sequence[View], options: argparse.Namespace, base: Run
) -> list[Trial]:
    """The trials of an attack by its name; or the one of an attack by its training's folder."""
    if not _learned(name):
        kind = discover.find("attacks", Attack, name)  # type: ignore[type-abstract]
        return [Trial(kind(_threat(options, base)), v) for v in views]
    source = _trained(Path(name), options)
    attack = source.attack(source.selected)
    _check_budget(attack, options)
    if source.data_shape != base.data_shape:
        (mine, classes), (theirs, others) = source.data_shape, base.data_shape
        raise ValueError(
            f"{name} was learnt on images of shape {mine} in {classes} classes; "
            f"the victim takes {theirs} in {others}"
        )
    met = source.view_of(base)
    named = [options.attack] if isinstance(options.attack, str) else options.attack
    if options.view and met not in views and all(map(_learned, named)):
        raise ValueError(
            f"{name} was learnt before it meets this victim, and its view is {met}; "
            "leave out --view"
        )
    return [Trial(attack, met)]


def _learned(name: str) -> bool:
    """Whether an attack is named by the folder of its training.

    Raises:
        FileNotFoundError: It looks like a folder, but is none in a run.
    """
    if name in discover.names("attacks"):
        return False
    folder = Path(name)
    found = (folder.parent / FILE).exists()
    if not found and folder.name != name:
        raise FileNotFoundError(f"{name} is in no run folder: there is no {folder.parent / FILE}")
    return found


def _check_budget(attack: Attack, options: argparse.Namespace) -> None:
    """Refuse a budget that is not the one that an attack was learnt for."""
    asked = _budget(options)
    if asked and attack.threat != asked:
        raise ValueError(f"the attack was learnt for {attack.threat}, not for {asked}")


def _threat(options: argparse.Namespace, base: Run) -> ThreatModel:
    if asked := _budget(options):
        return asked
    if base.recipe.trials:
        return base.recipe.trials[0].attack.threat
    raise ValueError(
        "give the budget: --eps, on the [0, 1] pixel scale (as 0.3, or 0.0314 = 8/255)"
    )


def _budget(options: argparse.Namespace) -> ThreatModel | None:
    """The threat model that was asked for, if any was."""
    return None if options.eps is None else {"Linf": Linf, "L2": L2}[options.threat](options.eps)


def _gate(rows: list[results.Row], options: argparse.Namespace) -> int:
    """The exit status: not 0 where a headline is too low, or not to be trusted."""
    worst = [row for row in rows if row.verdict is not None]
    complaints = []
    for row in worst:
        if options.min_robust_acc is not None and row.robust_acc < options.min_robust_acc:
            complaints.append(
                f"{row.method}: robust accuracy {row.robust_acc:.2%} is below "
                f"{options.min_robust_acc:.2%}"
            )
        if options.require_valid and row.verdict == "not trustworthy":
            complaints.append(f"{row.method}: the number is not trustworthy")
    for complaint in complaints:
        out.print(complaint, style="red", markup=False)
    return REFUSED if complaints else 0
