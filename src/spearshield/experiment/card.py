"""Cards: JSON descriptions of saved shields and spears, beside their weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spearshield.architecture import Architecture
from spearshield.judging.provenance import versions
from spearshield.judging.results import Row
from spearshield.storage.atomic import write_json
from spearshield.storage.serialization import dump, load
from spearshield.threat import ThreatModel
from spearshield.training.loop import Training
from spearshield.types import Shape

FORMAT = 1


@dataclass(frozen=True)
class Measured:
    """The result of the last audit of a shield.

    Args:
        effort: The battery, ``quick`` or ``standard``, or ``attacks`` for chosen attacks.
        images: Number of images.
        clean: Accuracy on clean images, from 0 to 1.
        robust: Robust accuracy: the worst case over all attacks of the audit.
        interval: 95 % Wilson interval of ``robust``.
        verdict: Whether flaws of the evaluation were looked for and found; see
            ``docs/evaluation.md``.
    """

    effort: str
    images: int
    threat: str
    eps: float
    clean: float
    robust: float
    interval: tuple[float, float]
    verdict: str | None
    seed: int

    @staticmethod
    def of(row: Row, effort: str) -> Measured:
        """The figures of a worst-case row."""
        return Measured(
            effort,
            row.images,
            row.threat,
            row.eps,
            row.acc,
            row.robust_acc,
            row.interval,
            row.verdict,
            row.seed,
        )


@dataclass(frozen=True)
class ClassifierCard:
    """How to get the classifier of a shield back.

    Args:
        name: The name of its architecture or class.
        architecture: How to build it; ``None``: it is the user's own module, which the user passes.
        mean, std, output: The arguments of ``as_classifier`` that it was wrapped with.
        wrapped: True if it was wrapped by ``as_classifier``.
    """

    name: str
    architecture: Architecture | None = None
    wrapped: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    output: str = "logits"


@dataclass(frozen=True)
class Card:
    """A saved shield or spear.

    Args:
        kind: ``shield`` or ``spear``.
        name: The name of the method or of the training.
        training: The method, its hyper-parameters and how long it was trained.
        threat: The threat model it was trained for, where it was trained for one.
        seed: The seed of the training.
        shape: Channels, height and width of the images.
        names: The names of the classes.
        classifier: The classifier that the shield protects, or that the spear was trained on.
        measured: The last audit; ``None``: not examined.
        sha256: Digest of the weights file.
        trained_on: Of a spear, the digest of the weights of the model that it was trained on.
    """

    kind: str
    name: str
    training: Training | None
    threat: ThreatModel | None
    seed: int
    shape: Shape
    names: tuple[str, ...]
    classifier: ClassifierCard
    measured: Measured | None = None
    sha256: str = ""
    trained_on: str = ""

    def write(self, path: Path) -> None:
        """Write the card as JSON, atomically."""
        measured = self.measured
        write_json(
            path,
            {
                "format": FORMAT,
                "kind": self.kind,
                "name": self.name,
                "training": dump(self.training),
                "threat": dump(self.threat),
                "seed": self.seed,
                "shape": [*self.shape],
                "names": [*self.names],
                "classifier": {
                    **asdict(self.classifier),
                    "architecture": dump(self.classifier.architecture),
                },
                "measured": asdict(measured) if measured else {"verdict": "not examined"},
                "sha256": self.sha256,
                "trained_on": self.trained_on,
                "versions": versions(),
            },
        )

    @staticmethod
    def read(path: Path) -> Card:
        """The card in a file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not a card of this version.
        """
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            if saved["format"] != FORMAT:
                raise ValueError(f"it has format {saved['format']}, this version reads {FORMAT}")
            channels, height, width = saved["shape"]
            return Card(
                kind=str(saved["kind"]),
                name=str(saved["name"]),
                training=_of_type(load(saved["training"]), Training),
                threat=_of_type(load(saved["threat"]), ThreatModel),
                seed=int(saved["seed"]),
                shape=(int(channels), int(height), int(width)),
                names=tuple(map(str, saved["names"])),
                classifier=_classifier(saved["classifier"]),
                measured=_measured(saved["measured"]),
                sha256=str(saved["sha256"]),
                trained_on=str(saved["trained_on"]),
            )
        except FileNotFoundError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
            raise ValueError(f"{path} is not a card of this version: {error}") from error


def _of_type(value: Any, kind: type) -> Any:
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _classifier(saved: Mapping[str, Any]) -> ClassifierCard:
    mean, std = (tuple(map(float, saved[key])) if saved[key] else None for key in ("mean", "std"))
    architecture = _of_type(load(saved["architecture"]), Architecture)
    return ClassifierCard(
        str(saved["name"]), architecture, bool(saved["wrapped"]), mean, std, str(saved["output"])
    )


def _measured(saved: Mapping[str, Any]) -> Measured | None:
    if "robust" not in saved:
        return None
    low, high = saved["interval"]
    return Measured(**{**saved, "interval": (low, high)})
