"""Classifiers and purifiers that a command line names, with their weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from spearshield.classifiers import architecture
from spearshield.classifiers.timm_model import TimmModel
from spearshield.classifiers.torchvision_model import TorchvisionModel
from spearshield.classifiers.user import built_purifier
from spearshield.dataset import Examples
from spearshield.experiment.purifier import PurifierSource, as_purifier
from spearshield.experiment.subject import for_model
from spearshield.nets.wrapped_classifier import WrappedClassifier
from spearshield.rng import ambient
from spearshield.storage.weights import MisfitError, Normalisation, load_weights

PUBLISHED = "published"
"""The value of ``--weights`` that stands for the weights that timm or torchvision publishes."""


def classifier(options: argparse.Namespace, images: Examples) -> WrappedClassifier:
    """The network that ``--classifier`` and ``--weights`` name, as a classifier of ``images``.

    Raises:
        ValueError: It cannot be built for these images, its weights are random, or the weights in
            the file do not fit.
        FileNotFoundError: There is no such file.
    """
    named, weights = architecture(options.classifier), options.weights
    remedy = "--weights FILE"
    if isinstance(named, (TimmModel, TorchvisionModel)):
        remedy += f", or use --weights {PUBLISHED}"
        if weights == PUBLISHED:
            named, weights = replace(named, pretrained=True), None
    elif weights == PUBLISHED:
        raise ValueError(
            f"{options.classifier} has no published weights; timm:NAME and torchvision:NAME do"
        )

    def build() -> nn.Module:
        return named.network(images.shape, images.classes)

    mean, std = (tuple(v) if v else None for v in (options.mean, options.std))
    built = _built(build, "--weights", weights)
    with _counting(options, images):
        _load(built, weights, Normalisation(mean, std) if mean and std else None)
    if weights is None:
        _refuse_random(built, build, options.classifier, remedy)
    wrapped = WrappedClassifier(built, mean, std, options.output or "logits", named).eval()
    wrapped.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # pooling is faster
    outputs = for_model(wrapped, images).classes
    if options.classes not in (None, outputs):
        raise ValueError(
            f"--classes is {options.classes}, and {options.classifier} has {outputs} outputs; "
            "leave --classes out"
        )
    return wrapped


def purifier(options: argparse.Namespace, images: Examples | None) -> PurifierSource | None:
    """The purifier that ``--purifier`` and ``--purifier-weights`` name; ``None`` without them.

    Raises:
        ValueError: It cannot be built for these images, its weights are random, or the weights in
            the file do not fit.
        FileNotFoundError: There is no such file.
    """
    target, weights = options.purifier, options.purifier_weights
    if target is None:
        if weights is not None:
            raise ValueError("--purifier-weights goes with --purifier module:function")
        return None
    if images is None:
        raise ValueError("--purifier needs --data, and a classifier or a saved shield")

    def build() -> nn.Module:
        return as_purifier(built_purifier(target, images.shape))

    built = _built(build, "--purifier-weights", weights)
    _load(built, weights)
    if weights is None:
        _refuse_random(built, build, target, "--purifier-weights FILE")
    return built


@contextmanager
def _counting(options: argparse.Namespace, images: Examples) -> Iterator[None]:
    """A block in which weights that do not fit say how many classes the labels show."""
    try:
        yield
    except MisfitError as error:
        if options.classes:
            raise
        raise MisfitError(
            f"{error} (the labels of {images.source} show {images.classes} classes; --classes sets "
            "another number)"
        ) from error


def _built(build: Callable[[], nn.Module], option: str, weights: str | None) -> nn.Module:
    """The network that ``build`` returns, after a check that its file of weights is there.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if weights is not None and not Path(weights).is_file():
        seen = "is empty" if not weights else f"{weights} is no file"
        raise FileNotFoundError(f"{option} {seen}; name the file of the trained weights")
    with ambient(0):
        return build()


def _load(network: nn.Module, weights: str | None, normalised: Normalisation | None = None) -> None:
    """Load the weights of a file, if there is one, behind a normalisation of the images."""
    if weights is not None:
        load_weights(network, Path(weights), normalised=normalised)


def _refuse_random(
    network: nn.Module, build: Callable[[], nn.Module], name: str, remedy: str
) -> None:
    """Raise if ``build`` draws the weights of a network.

    Raises:
        ValueError: Names the weights.
    """
    with ambient(1):
        again = build()
    if drawn := _drawn(network, again):
        raise ValueError(
            f"{name} has random weights ({drawn[0]} and {len(drawn) - 1} others); name the file of "
            f"its trained weights, as {remedy}"
        )


def _drawn(network: nn.Module, again: nn.Module) -> list[str]:
    """The names of the weights that differ between two networks of the same function."""
    others = dict(again.named_parameters())
    pairs = [(name, value, others.get(name)) for name, value in network.named_parameters()]
    return [name for name, a, b in pairs if b is None or a.shape != b.shape or (a != b).any()]
