"""Cards: JSON descriptions of saved shields and spears, beside their weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from spearshield.architecture import Architecture
from spearshield.experiment.limits import check_images, check_name
from spearshield.judging.provenance import versions
from spearshield.judging.results import Row
from spearshield.logits import Output
from spearshield.storage.atomic import write_json
from spearshield.storage.reading import read_object
from spearshield.storage.serialization import dump, field_of
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
    output: Output = "logits"


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
        saved = read_object(path)
        try:
            if (written := field_of(saved, "format", int)) != FORMAT:
                raise ValueError(f"it has format {written}, this version reads {FORMAT}")
            names = field_of(saved, "names", tuple[str, ...])
            shape = field_of(saved, "shape", tuple[int, int, int])
            check_images(shape, len(names))
            check_name(name := field_of(saved, "name", str))
            return Card(
                kind=field_of(saved, "kind", Literal["shield", "spear"]),
                name=name,
                training=field_of(saved, "training", Training | None),
                threat=field_of(saved, "threat", ThreatModel | None),
                seed=field_of(saved, "seed", int),
                shape=shape,
                names=names,
                classifier=_part(saved, "classifier", ClassifierCard),
                measured=_measured(saved),
                sha256=field_of(saved, "sha256", str),
                trained_on=field_of(saved, "trained_on", str),
            )
        except ValueError as error:
            raise ValueError(f"{path} is not a card of this version: {error}") from error


def _part(saved: dict[str, Any], name: str, kind: Any) -> Any:
    """The dataclass ``kind`` whose fields are those of the object ``name`` in a card."""
    hints = get_type_hints(kind)
    return kind(**{field: field_of(saved, f"{name}.{field}", hints[field]) for field in hints})


def _measured(saved: dict[str, Any]) -> Measured | None:
    measured = saved.get("measured")
    if isinstance(measured, dict) and "robust" not in measured:
        return None
    found: Measured = _part(saved, "measured", Measured)
    return found
