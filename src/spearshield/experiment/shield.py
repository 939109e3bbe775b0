"""Shields and spears: trained defences and attacks that are saved to a folder and loaded.

A folder holds ``card.json`` and ``weights.safetensors``. Neither names a path or holds code.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spearshield import arguments
from spearshield.adversary import as_images, check_images
from spearshield.classifiers.user import UnnamedFunction
from spearshield.experiment.card import Card, ClassifierCard
from spearshield.experiment.folders import (
    CARD,
    TRAINING,
    check_writable,
    refuse_others,
    refuse_training_of_run,
)
from spearshield.experiment.limits import built_from
from spearshield.method import Defended, Outcome, RandomPurifier, Task
from spearshield.nets.wrapped_classifier import WrappedClassifier
from spearshield.ranges import whole_number
from spearshield.rng import ambient
from spearshield.storage.digest import digest
from spearshield.storage.reading import file_bytes
from spearshield.storage.tensor_files import LARGEST
from spearshield.storage.weights import load_part, load_weights, save_weights
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.transformation import ArrayPurifier
from spearshield.types import Images, Logits, Mask

WEIGHTS = "weights.safetensors"


class Shield(Defended):
    """A protected classifier: a module from images in [0, 1] to logits.

    It is the classifier behind a purifier, or a classifier that was trained to be robust.

    Args:
        outcome: The outcome of the training.
        card: Its description.
    """

    def __init__(self, outcome: Outcome, card: Card) -> None:
        super().__init__(outcome.purifier, outcome.classifier)
        self.card = card
        self.attack = outcome.attack
        self.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def purify(self, x: Tensor | NDArray[Any]) -> Images:
        """The purified images, in [0, 1], of the same shape; ``x`` itself without a purifier.

        Args:
            x: Images of shape (n, c, h, w): floats in [0, 1], or 8-bit numbers.

        Returns:
            Images on the device of ``x``: float64 if ``x`` is float64, else float32.

        Raises:
            ValueError: See :meth:`checked`.
        """
        images = self.checked(x)
        x_hat: Images = self.purifiers(images)
        return x_hat.to(images)

    @torch.no_grad()
    def rejects(self, x: Tensor | NDArray[Any]) -> Mask:
        """True for each image that the shield rejects as adversarial."""
        return self.detection_score(self.checked(x)) > 0

    def checked(self, x: Tensor | NDArray[Any]) -> Images:
        """The images as float64 if they are float64, else as float32.

        Raises:
            ValueError: They are not images, or do not have the shape of the training images.
        """
        images = as_images(x)
        check_images(images)
        self.check_shape(tuple(images.shape[1:]))
        return images

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise unless the images have the shape of the training images.

        Args:
            shape: Channels, height and width.

        Raises:
            ValueError: Names both shapes.
        """
        own = self.card.shape
        if shape != own:
            remedy = f"; --size {own[1]}x{own[2]} resizes files" if shape[0] == own[0] else ""
            raise ValueError(
                f"images have shape {shape}; {self.card.name} was trained on {own}{remedy}"
            )

    def save(self, folder: str | Path) -> None:
        """Write ``card.json`` and ``weights.safetensors`` to ``folder``.

        Raises:
            ValueError: The folder holds another saved shield or spear, or something else.
        """
        self.card = _write(arguments.path("folder", folder), self, self.card)

    def export_onnx(self, path: str | Path, *, batch: int = 1) -> None:
        """Write the purifier and the classifier as one ONNX graph, for batches of any size.

        Args:
            path: The file to write.
            batch: Number of images in the example that the graph is traced with.

        Raises:
            ValueError: The purifier searches, draws at random or is computed by another library, so
                it is not one pass through a network; it rejects images; or the optional packages
                are missing.
        """
        if isinstance(self.classifier, MissingClassifier):
            self.classifier.refuse()
        for part in self.modules():
            if isinstance(part, RandomPurifier):
                raise ValueError(
                    f"{self.card.name} runs a search or draws at random for each image, so it "
                    "cannot be exported as one graph; export a purifier that answers in one pass, "
                    "such as ape_gan, dae or cycle_adv_gan"
                )
            if isinstance(part, ArrayPurifier):
                raise ValueError(
                    f"{self.card.name} computes images by a library other than torch, so it cannot "
                    "be exported as one graph; export a purifier that is a network, such as "
                    "ape_gan, dae or cycle_adv_gan"
                )
        if self.purifiers.detect:
            raise ValueError(
                f"{self.card.name} rejects images, which a graph of logits cannot express; "
                "export a purifier that does not detect"
            )
        try:
            import onnxscript  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: F401, PLC0415
        except ImportError as error:
            raise ValueError(
                "exporting needs the packages onnx and onnxscript: pip install 'spearshield[onnx]'"
            ) from error
        file = arguments.path("path", path)
        if file.is_dir():
            raise ValueError(f"{file} is a folder; name a file, such as {file / 'shield.onnx'}")
        check_writable(file.parent)
        example = torch.full(
            (max(whole_number("batch", batch, at_least=1), 2), *self.card.shape), 0.5
        )
        network = copy.deepcopy(_plain(self)).cpu().eval()
        file.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(), quiet("torch.onnx"):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (example,),
                str(file),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
                external_data=False,
                verbose=False,
            )


@contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Silence a logger's warnings inside the block."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


class _Plain(nn.Module):
    """A shield without its methods, for export."""

    def __init__(self, purifier: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.purifier, self.classifier = purifier, classifier

    def forward(self, images: Images) -> Logits:
        logits: Logits = self.classifier(self.purifier(images))
        return logits


def _plain(shield: Shield) -> nn.Module:
    return _Plain(shield.purifier, shield.classifier)


@dataclass(frozen=True)
class Spear(LearnedAttack):
    """A trained attack: one forward pass of its network perturbs a batch of images.

    Called like any attack, ``spear(model, x, y)``; it looks at neither the model nor the labels.
    """

    card: Card | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def display_name(self) -> str:
        """The name of the method that it was trained by."""
        return self.card.name if self.card else super().display_name

    def save(self, folder: str | Path) -> None:
        """Write ``card.json`` and ``weights.safetensors`` to ``folder``.

        Raises:
            ValueError: The folder holds another saved shield or spear, or something else.
        """
        assert self.card is not None
        _write(arguments.path("folder", folder), self.network, self.card)


class MissingClassifier(nn.Module):
    """Replaces a user's classifier that was not passed to ``load``; purifying still works.

    It has neither weights nor logits: what needs them is refused. A shield whose classifier the
    method trained needs them to load.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Images) -> Logits:  # noqa: ARG002
        self.refuse()

    def named_parameters(self, *args: Any, **options: Any) -> NoReturn:  # noqa: ARG002
        """Raise for a method that trains the classifier, because its weights are missing."""
        self.refuse()

    def refuse(self) -> NoReturn:
        """Raise a ``ValueError`` that explains how to pass the classifier."""
        raise ValueError(
            f"this shield protects {self.name}, which is not part of this package; pass the "
            "network to load(folder, classifier=...), or name it with --classifier, in transfer as "
            "a model NAME=WEIGHTS"
        )


def load_saved(folder: Path, classifier: nn.Module | None = None) -> Shield | Spear:
    """The shield or spear in a folder.

    No code that the folder names is imported or called.

    Args:
        folder: What ``save`` wrote.
        classifier: The user's own network, of the architecture that was protected; a copy of it
            gets the saved weights. It is not needed to purify.

    Raises:
        FileNotFoundError: The folder holds no card.
        ValueError: The card or the weights cannot be read, or do not fit the classifier; or the
            method trained the classifier, and it was not passed.
    """
    card = Card.read(folder / CARD)
    path = folder / WEIGHTS
    if digest(file_bytes(path, LARGEST)) != card.sha256:
        raise ValueError(f"{path} is not the file that {CARD} describes; copy both again")
    if card.training is None:
        raise ValueError(f"{folder / CARD} names no training; save the {card.kind} again")
    with ambient(0), built_from(folder / CARD):
        network = rebuilt(card.classifier, card, classifier)
        task = Task(
            network, copy.deepcopy(network), card.shape, len(card.names), card.training.learn_from
        )
        method = with_weights(card.training.method, path)
        outcome = method.learner(task).outcome()
    if card.kind == "spear":
        attack = outcome.attack
        if not isinstance(attack, LearnedAttack):
            raise ValueError(f"the card of {folder} describes a spear, but {card.name} yields none")
        load_weights(attack.network, path)
        return Spear(attack.threat, attack.network, card.training, attack.queries, card=card)
    shield = Shield(outcome, card)
    if isinstance(network, MissingClassifier):
        load_part(shield.purifier, "purifier", path)
    else:
        load_weights(shield, path)
    return shield


def rebuilt(about: ClassifierCard, card: Card, given: nn.Module | None) -> nn.Module:
    """The classifier of a card: a copy of ``given``, or else built from its architecture."""
    network = copy.deepcopy(given) if given is not None else _built(about, card)
    if about.wrapped and not isinstance(network, (WrappedClassifier, MissingClassifier)):
        output: Any = about.output
        network = WrappedClassifier(network, about.mean, about.std, output, about.architecture)
    return network.eval()


def _built(about: ClassifierCard, card: Card) -> nn.Module:
    architecture = about.architecture
    if architecture is None:
        return MissingClassifier(about.name)
    if any(field.name == "pretrained" for field in fields(architecture)):
        architecture = replace(architecture, pretrained=False)  # type: ignore[call-arg]
    network = architecture.network(card.shape, len(card.names))
    unnamed = isinstance(network, UnnamedFunction)
    return MissingClassifier(about.name) if unnamed else network


def with_weights(value: Any, path: Path) -> Any:
    """A method that takes its networks from ``path``, if it takes them from a file."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    own = {field.name: getattr(value, field.name) for field in fields(value)}
    changes = {name: with_weights(part, path) for name, part in own.items()}
    if own.get("weights"):
        changes["weights"] = str(path)
    return replace(value, **changes)


def refuse_another(folder: Path, card: Card) -> None:
    """Raise if a folder holds something else than the shield or spear of ``card``.

    Raises:
        ValueError: Names what the folder holds.
    """
    refuse_training_of_run(folder)
    refuse_others(folder, CARD, TRAINING)
    before = Card.read(folder / CARD) if (folder / CARD).exists() else None
    if before and (before.trained_on, before.training) != (card.trained_on, card.training):
        raise ValueError(f"{folder} holds another saved {before.kind}; choose another folder")


def _write(folder: Path, network: nn.Module, card: Card) -> Card:
    """Write weights and card; returns the card with the digest of the weights."""
    refuse_another(folder, card)
    save_weights(network, folder / WEIGHTS)
    written = replace(card, sha256=digest((folder / WEIGHTS).read_bytes()))
    written.write(folder / CARD)
    return written
