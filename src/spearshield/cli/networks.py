"""Classifiers and purifiers that a command line names, with their weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from torch import nn

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
    return WrappedClassifier(built, mean, std, options.output or "logits", named).eval()


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
    if drawn := _drawn(network, again):
        raise ValueError(
            f"{name} has random weights ({drawn[0]} and {len(drawn) - 1} others); name the file of "
            f"its trained weights, as {option} FILE"
        )
    return network


def _drawn(network: nn.Module, again: nn.Module) -> list[str]:
    """The names of the weights that differ between two networks of the same function."""
    others = dict(again.named_parameters())
    pairs = [(name, value, others.get(name)) for name, value in network.named_parameters()]
    return [name for name, a, b in pairs if b is None or a.shape != b.shape or (a != b).any()]
