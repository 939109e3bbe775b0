"""What the words of a command line mean: values for the front door."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spearshield import discover
from spearshield.api import load
from spearshield.attack import Attack
from spearshield.architecture import Architecture
from spearshield.classifiers import architecture
from spearshield.dataset import Dataset, Examples
from spearshield.datasets import dataset
from spearshield.datasets.image_folder import ImageFolder
from spearshield.experiment.as_examples import as_examples
from spearshield.experiment.card import Card
from spearshield.experiment.opened import open_run
from spearshield.experiment.overrides import override, view
from spearshield.experiment.shield import CARD, Shield
from spearshield.experiment.trials import VIEWS, is_trained
from spearshield.judging.trial import Trial
from spearshield.nets.wrapped_classifier import WrappedClassifier
from spearshield.storage.weights import load_weights
from spearshield.threat import L2, Linf, ThreatModel
from spearshield.views import View


def device(options: argparse.Namespace) -> str:
    """The device; ``auto`` is CUDA where there is one.

    Raises:
        ValueError: CUDA was named and there is none.
    """
    if options.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device is available; use --device cpu")
    return str(options.device)


def threat(options: argparse.Namespace) -> ThreatModel | None:
    """The budget, where ``--eps`` gives one."""
    return None if options.eps is None else {"Linf": Linf, "L2": L2}[options.threat](options.eps)


def examples(options: argparse.Namespace, split: str) -> Examples | None:
    """The images that ``--data`` names, with ``--size`` and ``--classes``; ``None`` without it.

    Raises:
        ValueError: They cannot be read, or an option does not fit this kind of data.
        FileNotFoundError: There is no such file.
    """
    if not options.data:
        return None
    data: Dataset = dataset(options.data)
    if options.size:
        if not isinstance(data, ImageFolder):
            raise ValueError("--size resizes the images of a folder; other data have a fixed size")
        data = replace(data, size=tuple(options.size))
    chosen: Any = options.split or split
    if chosen == "train" and not options.split:
        return _training_images(data, options)
    return as_examples(data, split=chosen, root=options.data_dir, classes=options.classes)


def _training_images(data: Dataset, options: argparse.Namespace) -> Examples:
    """The training images; of data that come in one part, all of them."""
    try:
        return as_examples(data, split="train", root=options.data_dir, classes=options.classes)
    except ValueError as no_training_images:
        try:
            return as_examples(data, root=options.data_dir, classes=options.classes)
        except ValueError:
            raise no_training_images from None


def classifier(options: argparse.Namespace, images: Examples) -> WrappedClassifier:
    """The network that ``--classifier`` and ``--weights`` name, as a classifier of ``images``.

    Raises:
        ValueError: It cannot be built for these images, or the weights do not fit.
    """
    named = architecture(options.classifier)
    network = named.build(images.shape, images.classes)
    if options.weights:
        load_weights(network, Path(options.weights))
    return _wrapped(network, named, options).eval()


def _wrapped(
    network: nn.Module, named: Architecture, options: argparse.Namespace
) -> WrappedClassifier:
    mean, std = (tuple(v) if v else None for v in (options.mean, options.std))
    return WrappedClassifier(network, mean, std, options.output, named)


def shield(options: argparse.Namespace) -> Shield:
    """The shield in a folder, around the network that ``--classifier`` names, if it is one's own.

    Raises:
        ValueError: The folder holds an attack, or the network does not fit.
        FileNotFoundError: The folder holds nothing that was saved or trained.
    """
    folder, network = Path(options.model), None
    if options.classifier and (folder / CARD).exists():
        card = Card.read(folder / CARD)
        network = architecture(options.classifier).build(card.shape, len(card.names))
    elif options.classifier:
        raise ValueError("give a folder or --classifier, not both; a run has its own classifier")
    saved = load(folder, classifier=network, device=device(options))
    if not isinstance(saved, Shield):
        raise ValueError(f"{folder} holds an attack; name a shield")
    return saved


def model(options: argparse.Namespace, images: Examples | None) -> nn.Module | Path:
    """The model of a command: a shield, RUN/TRAINING, or the network that ``--classifier`` names.

    Raises:
        ValueError: None is named, or two, or images are missing.
    """
    if options.model and (options.model / CARD).exists():
        return shield(options)
    if options.model:
        if options.classifier or options.weights:
            raise ValueError("give a run folder or --classifier, not both")
        path: Path = options.model
        return path
    if not options.classifier or images is None:
        raise ValueError("give a shield or RUN/TRAINING, or both --classifier and --data")
    return classifier(options, images)


def attacks(options: argparse.Namespace, chosen: nn.Module | Path) -> list[Trial | str]:
    """What ``--attack``, ``--view``, ``--eps`` and ``--set`` name: trials, or trained attacks.

    Raises:
        ValueError: There is no such attack or view, or no budget for it.
    """
    budget, found = threat(options) or known_threat(chosen), list[Trial | str]()
    for name in options.attack:
        if is_trained(name):
            found.append(name)
            continue
        kind = discover.find("attacks", Attack, name)  # type: ignore[type-abstract]
        if budget is None:
            raise ValueError("give the budget, on the [0, 1] pixel scale, as in --eps 8/255")
        found += [changed(Trial(kind(budget), v), options.changes) for v in views(options) or VIEWS]
    return found


def views(options: argparse.Namespace) -> list[View]:
    """The views that ``--view`` names; none: the defaults of the command."""
    return [view(name) for name in options.view or ()]


def known_threat(chosen: nn.Module | Path) -> ThreatModel | None:
    """The budget that a shield, or a training of a run, was made for."""
    if isinstance(chosen, Shield):
        return chosen.card.threat
    return None if isinstance(chosen, nn.Module) else open_run(chosen).threat


def changed(value: Any, changes: list[str]) -> Any:
    """A frozen value with the fields that ``--set FIELD.SUB=VALUE`` names changed.

    Raises:
        ValueError: There is no such field, or the text does not fit it.
    """
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD.SUB=VALUE, got {change!r}")
        value = override(value, path.strip(), text.strip())
    return value

