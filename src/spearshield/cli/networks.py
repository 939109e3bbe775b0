"""Classifiers and purifiers that a command line names, with their weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from spearshield.classifiers import architecture
from spearshield.classifiers.user import built_purifier
from spearshield.dataset import Examples
from spearshield.experiment.purifier import PurifierSource, as_purifier
from spearshield.nets.wrapped_classifier import WrappedClassifier
from spearshield.rng import ambient
from spearshield.storage.weights import load_weights


def classifier(options: argparse.Namespace, images: Examples) -> WrappedClassifier:
    """The network that ``--classifier`` and ``--weights`` name, as a classifier of ``images``.

    Raises:
        ValueError: It cannot be built for these images, its weights are random, or the weights in
            the file do not fit.
        FileNotFoundError: There is no such file.
    """
    named = architecture(options.classifier)

    def build() -> nn.Module:
        try:
            return named.build(images.shape, images.classes)
        except ValueError as error:
            raise ValueError(
                f"{error} (the labels of {images.source} show {images.classes} classes; "
                "--classes sets another number)"
            ) from error

    built = _trained(build, options.classifier, "--weights", options.weights)
    mean, std = (tuple(v) if v else None for v in (options.mean, options.std))
    return WrappedClassifier(built, mean, std, options.output, named).eval()


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

    return _trained(build, target, "--purifier-weights", weights)


def _trained(
    build: Callable[[], nn.Module], name: str, option: str, weights: str | None
) -> nn.Module:
    """The network that ``build`` returns, with the weights of a file, or else with its own.

    Raises:
        ValueError: There is no file and its own weights are random.
        FileNotFoundError: There is no such file.
    """
    if weights == "":
        raise ValueError(f"{option} is empty; name the file of the trained weights")
    with ambient(0):
        network = build()
    if weights is not None:
        load_weights(network, Path(weights))
        return network
    with ambient(1):
        again = build()
    if _random(network, again):
        raise ValueError(
            f"{name} has random weights; name the file of its trained weights, as {option} FILE"
        )
    return network


def _random(network: nn.Module, again: nn.Module) -> bool:
    """True if every weight differs between two networks of the same function.

    Weights that a layer sets to one number, such as a bias of zero, show nothing.
    """
    pairs: list[tuple[Any, Any]] = [*zip(network.parameters(), again.parameters(), strict=False)]
    drawn = [not _equal(a, b) for a, b in pairs if not _equal(a, a.flatten()[:1].expand_as(a))]
    return bool(drawn) and all(drawn)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())
