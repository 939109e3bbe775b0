"""Values for the front door, from the words of a command line."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spearshield import discover
from spearshield.adversary import Attack
from spearshield.api import load
from spearshield.classifiers import architecture
from spearshield.cli import console, networks
from spearshield.dataset import Examples, Split
from spearshield.datasets import dataset
from spearshield.experiment.as_examples import as_examples
from spearshield.experiment.card import Card
from spearshield.experiment.defaults import budget_for, training_for
from spearshield.experiment.device import checked_device
from spearshield.experiment.folders import CARD, refuse_inside
from spearshield.experiment.opened import open_run, spear_of
from spearshield.experiment.overrides import override, view
from spearshield.experiment.recipe import Recipe, load_recipe
from spearshield.experiment.shield import Shield, Spear
from spearshield.experiment.transfer import attacks_of
from spearshield.experiment.trials import VIEWS, is_trained
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.trial import Trial
from spearshield.method import Method
from spearshield.threat import ThreatModel
from spearshield.types import Shape
from spearshield.views import View


def device(options: argparse.Namespace) -> str:
    """The device; ``auto`` is CUDA where there is one.

    Raises:
        ValueError: CUDA was named and there is none.
    """
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return checked_device(automatic if options.device == "auto" else options.device)


def threat(options: argparse.Namespace) -> ThreatModel | None:
    """The budget, where ``--eps`` gives one.

    Raises:
        ValueError: There is no such norm, or it is given without ``--eps``.
    """
    if options.eps is not None:
        return ThreatModel.named(options.threat or "Linf", options.eps)
    if options.threat:
        raise ValueError(f"--threat {options.threat} needs a budget, such as --eps 8/255")
    return None


def examples(options: argparse.Namespace) -> Examples | None:
    """The images to attack that ``--data`` names; ``None`` without it.

    Raises:
        ValueError: They cannot be read, or an option does not fit this kind of data.
        FileNotFoundError: There is no such file.
    """
    if not options.data:
        refuse(options, "without --data", "split", "size", "classes")
        return None
    return _read(options, options.split or "test")


def training_images(options: argparse.Namespace) -> Examples:
    """The training images that ``--data`` names; of data that do not name their parts, all.

    Raises:
        ValueError: They cannot be read, or an option does not fit this kind of data.
        FileNotFoundError: There is no such file.
    """
    return _read(options, options.split or "train", None if options.split else "test")


def _read(options: argparse.Namespace, split: Split, otherwise: Split | None = None) -> Examples:
    size = tuple(options.size) if options.size else None
    refuse_inside(options.out, Path(options.data))
    data = dataset(options.data, root=options.data_dir, size=size, classes=options.classes)
    images = as_examples(data, split=split, otherwise=otherwise, root=options.data_dir)
    console.classes(images)
    return images


def training(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments that ``protect`` and ``learn_attack`` share.

    Raises:
        ValueError: Images, network, method or attack cannot be found, or do not fit each other.
    """
    images = training_images(options)
    return {
        "model": networks.classifier(options, images),
        "images": images,
        "method": method(options, images),
        "threat": threat(options),
        "training_attack": options.attack or None,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "seed": options.seed or 0,
        "device": device(options),
        "folder": options.out / "training",
        "out": options.out,
    }


def method(options: argparse.Namespace, images: Examples) -> str | Method:
    """The method that ``--method`` names, with the fields that ``--set`` changes."""
    name: str = options.method
    if not options.changes:
        return discover.canonical("methods", name)
    budget = budget_for(threat(options), images.shape)
    default = training_for(name, images, budget, None, options.steps, options.batch_size).method
    value: Method = changed(default, [c.removeprefix("method.") for c in options.changes])
    return value


def batch_size(options: argparse.Namespace) -> int:
    """The number of images to attack at a time."""
    given: int | None = options.batch_size
    return EvaluationSettings.batch_size if given is None else given


NEED_A_MODEL = (
    *("weights", "purifier", "purifier_weights", "split", "images", "seed", "changes", "view"),
    *("format", "classes", "mean", "std", "output", "data_dir", "batch_size"),
)
"""Options of `attack` that mean nothing where files are perturbed without a model."""


def refuse(options: argparse.Namespace, where: str, *names: str) -> None:
    """Raise if one of some options was given where it means nothing.

    Args:
        where: The case, for the message, as in "without --data".

    Raises:
        ValueError: Names the options.
    """
    given = [name for name in names if getattr(options, name) not in (None, [])]
    if given:
        words = ("set" if name == "changes" else name.replace("_", "-") for name in given)
        raise ValueError(f"there is no use for --{', --'.join(words)} {where}")


def resize_to(options: argparse.Namespace, shape: Shape) -> bool:
    """True if ``--size`` asks for the height and width that a network was trained on.

    Raises:
        ValueError: It asks for another size.
    """
    if options.size and tuple(options.size) != shape[1:]:
        asked, own = ("x".join(map(str, size)) for size in (options.size, shape[1:]))
        raise ValueError(f"--size is {asked}, and this network was trained on {own}")
    return options.size is not None


def recipe(options: argparse.Namespace) -> Recipe:
    """The recipe that is named, with ``--set`` and ``--seed`` applied.

    Raises:
        ValueError: There is no such recipe or field.
        FileNotFoundError: There is no such file.
    """
    value = load_recipe(options.recipe)
    if options.seed is not None:
        value = replace(value, seed=options.seed)
    changed_value: Recipe = changed(value, options.changes)
    if options.seed not in (None, changed_value.seed):
        raise ValueError(
            f"--seed is {options.seed}, and --set makes it {changed_value.seed}; leave one out"
        )
    changed_value.check_names()
    return changed_value


def shield(options: argparse.Namespace) -> Shield:
    """The shield in a folder, around the network that ``--classifier`` names, if it is one's own.

    Raises:
        ValueError: The folder holds an attack, or the network does not fit.
        FileNotFoundError: The folder holds nothing that was saved or trained.
    """
    saved = _loaded(options.model, options)
    if not isinstance(saved, Shield):
        raise ValueError(f"{options.model} holds an attack; name a shield")
    return saved


def spear(folder: str, options: argparse.Namespace) -> Spear:
    """The trained attack in a folder.

    Raises:
        ValueError: The folder holds no attack.
        FileNotFoundError: The folder holds nothing that was saved or trained.
    """
    path = Path(folder)
    if not (path / CARD).exists():
        return spear_of(open_run(path, device=device(options)))
    saved = load(path, device=device(options))
    if not isinstance(saved, Spear):
        raise ValueError(f"{folder} holds a shield; name an attack")
    return saved


def network(folder: Path, options: argparse.Namespace) -> nn.Module:
    """The classifier or shield in a folder, as another model to transfer from."""
    saved = load(folder, device=device(options))
    if not isinstance(saved, nn.Module):
        raise ValueError(f"{folder} holds an attack; name a classifier or a shield")
    return saved


def _loaded(folder: Path, options: argparse.Namespace) -> Shield | Spear:
    named = getattr(options, "classifier", None)
    if not named:
        return load(folder, device=device(options))
    known = architecture(named)
    if not (folder / CARD).exists():
        return load(folder, device=device(options))
    card = Card.read(folder / CARD)
    own = known.network(card.shape, len(card.names))
    return load(folder, classifier=own, device=device(options))


def model(options: argparse.Namespace, images: Examples | None) -> nn.Module | Path:
    """The model of a command: a shield, RUN/TRAINING, or the network that ``--classifier`` names.

    Raises:
        ValueError: None is named, or two, or images are missing.
    """
    if options.model:
        refuse(options, f"with {options.model}, a saved one", "weights", "mean", "std", "output")
    if options.model and (options.model / CARD).exists():
        return shield(options)
    if options.model:
        if options.classifier:
            architecture(options.classifier)  # the user names it, so a run may import it
        path: Path = options.model
        return path
    if not options.classifier or images is None:
        raise ValueError("give a shield or RUN/TRAINING, or both --classifier and --data")
    return networks.classifier(options, images)


def attacks(options: argparse.Namespace, chosen: nn.Module | Path) -> list[Trial | str]:
    """The trials and trained attacks of ``--attack``, ``--view``, ``--eps`` and ``--set``.

    Raises:
        ValueError: There is no such attack or view, or no budget for it, or two.
    """
    if not options.attack:
        refuse(options, "with a battery; name an --attack", "view", "changes")
    budget, found = threat(options) or known_threat(chosen), list[Trial | str]()
    for name in options.attack:
        if is_trained(name):
            found.append(name)
            continue
        kind = discover.find("attacks", Attack, name)  # type: ignore[type-abstract]
        if budget is None:
            raise ValueError("give the budget, on the [0, 1] pixel scale, as in --eps 8/255")
        found += [changed(Trial(kind(budget), v), options.changes) for v in views(options) or VIEWS]
    refuse_two_budgets(options, [trial.attack for trial in found if isinstance(trial, Trial)])
    return found


def refuse_two_budgets(options: argparse.Namespace, chosen: list[Attack]) -> None:
    """Raise if ``--eps`` and ``--set`` give different budgets.

    Args:
        chosen: The attacks after ``--set``.

    Raises:
        ValueError: Names both budgets.
    """
    given = threat(options)
    for attack in chosen:
        if given not in (None, attack.threat):
            raise ValueError(
                f"--eps gives {given}, and --set makes it {attack.threat}; leave one out"
            )


def views(options: argparse.Namespace) -> list[View]:
    """The views that ``--view`` names; none: the defaults of the command."""
    return [view(name) for name in options.view or ()]


def known_threat(chosen: nn.Module | Path) -> ThreatModel | None:
    """The budget that a shield, or a training of a run, was made for."""
    if isinstance(chosen, Shield):
        return chosen.card.threat
    return None if isinstance(chosen, nn.Module) else open_run(chosen).recipe.threat


def classifiers(options: argparse.Namespace, images: Examples) -> dict[str, nn.Module]:
    """The models of a transfer matrix, by name.

    Raises:
        ValueError: One cannot be built for these images or loaded, or is named twice.
        FileNotFoundError: There is no such file.
    """
    names = [_short(word) for word in options.models]
    for word in options.models:
        if not Path(word).is_dir():
            architecture(word.partition("=")[0])  # the user names it, so a folder may import it
    found: dict[str, nn.Module] = {}
    for name, word in zip(names, options.models, strict=True):
        unique = name if names.count(name) == 1 else _long(word)
        if unique in found:
            raise ValueError(f"two models are called {unique}; rename a file or folder")
        found[unique] = _model_of(word, options, images)
    return found


def _short(word: str) -> str:
    """The name of a model in a matrix: the classifier, or the last folder of its path."""
    return word.partition("=")[0].partition(":")[2] or Path(word.partition("=")[0]).name


def _long(word: str) -> str:
    """The name with the file of the weights, or with the folder above."""
    name, _, weights = word.partition("=")
    return f"{_short(word)}_{Path(weights).stem}" if weights else "_".join(Path(name).parts[-2:])


def _model_of(word: str, options: argparse.Namespace, images: Examples) -> nn.Module:
    """The classifier NAME=WEIGHTS, one with published weights, or the one in a folder."""
    if Path(word).is_dir():
        return network(Path(word), options)
    name, _, weights = word.partition("=")
    if not weights and name.startswith(("timm:", "torchvision:")):
        weights = networks.PUBLISHED
    words = {**vars(options), "classifier": name, "weights": weights or None}
    return networks.classifier(argparse.Namespace(**words), images)


def transferred(options: argparse.Namespace, images: Examples) -> list[Attack]:
    """The attacks of ``--attack``, ``--eps`` and ``--set`` for a transfer matrix.

    Raises:
        ValueError: There is no such attack or field, or two budgets.
    """
    found = attacks_of(options.attack or ["fgsm", "pgd"], threat(options), images)
    changes = [change.removeprefix("attack.") for change in options.changes]
    chosen = [changed(attack, changes) for attack in found]
    refuse_two_budgets(options, chosen)
    return chosen


def changed(value: Any, changes: list[str]) -> Any:
    """A frozen value with the fields that ``--set FIELD.SUB=VALUE`` names changed.

    Raises:
        ValueError: There is no such field, or the text does not fit it.
    """
    seen: set[str] = set()
    for change in changes:
        path, equals, text = (part.strip() for part in change.partition("="))
        if not (path and equals):
            raise ValueError(f"--set takes FIELD.SUB=VALUE, got {change!r}")
        if path in seen:
            raise ValueError(f"--set gives {path} twice; leave one of them out")
        seen.add(path)
        value = override(value, path, text)
    return value
