"""The rows that evaluation writes and the report reads. Imports no torch.

``results.json`` is a list of rows; ``results.schema.json`` beside this file is its JSON schema, and
``docs/evaluation.md`` says what each field means.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spearshield import __version__

if TYPE_CHECKING:
    from spearshield.judging.score import Score

WORST_CASE = "worst_case"
"""The name, as ``attack`` and ``view``, of the per-image worst case over all rows of a defence."""


@dataclass(frozen=True)
class Row:
    """One measured cell: a defence under one attack through one view, on one set of images.

    Shares are between 0 and 1; ``None`` where a share has no denominator. Distances are means over
    all images, on the [0, 1] pixel scale.

    Args:
        method: What protects the classifier.
        classifier: The architecture under it.
        threat: The norm's name: Linf or L2.
        eps: The budget in that norm.
        acc: Clean accuracy through the victim.
        interval: 95 % Wilson interval of ``robust_acc``.
        asr: Of the images the bare classifier gets right, the share the attack flips for it.
        dsr: Of the adversarial images that fool the bare classifier, the share that the victim
            gets right.
        seconds_per_image, forwards_per_image: Cost of the attack.
        parameters: Hyper-parameters of data, classifier, training, method, attack and view.
        verdict: Of a worst case: ``trustworthy``, ``not trustworthy`` or ``broken``.
        findings: What puts the number in doubt: check, severity, saw, means, next.
        rejected: Of a victim that detects attacks, the shares of clean and of attacked images that
            it rejected.
        auc: Of such a victim, the area under the curve of true over false alarms.
        repeated: Of a random victim: ``one_shot``, ``worst_of``, ``vote`` and ``fixed_seed``, each
            the accuracy on clean images, the control, and under attack.
        curve: Of an attack that looks for the smallest perturbation of each image: distances from 0
            to ``eps``, each with the robust accuracy at it.
    """

    recipe: str
    data: str
    split: str
    images: int
    classifier: str
    method: str
    attack: str
    threat: str
    eps: float
    view: str
    acc: float
    robust_acc: float
    interval: tuple[float, float]
    asr: float | None
    dsr: float | None
    ssim: float
    l2: float
    linf: float
    seconds_per_image: float
    forwards_per_image: float
    seed: int
    device: str
    versions: dict[str, str]
    parameters: dict[str, Any] = field(default_factory=dict)
    verdict: str | None = None
    findings: list[dict[str, Any]] = field(default_factory=list)
    repeated: dict[str, tuple[float, float]] | None = None
    rejected: tuple[float, float] | None = None
    auc: float | None = None
    curve: list[tuple[float, float]] | None = None


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of ``results.json``."""
    text = Path(__file__).with_name("results.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def to_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows as plain JSON values.

    Raises:
        ValueError: A row breaks the schema.
    """
    plain: list[dict[str, Any]] = json.loads(json.dumps([asdict(row) for row in rows]))
    _validate(plain, "the rows")
    return plain


def read(path: Path) -> list[Row]:
    """The rows of a ``results.json``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON or breaks the schema; names the file and the field.
    """
    if not path.exists():
        raise FileNotFoundError(f"no {path}; `spearshield run` or `evaluate` writes it")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    _validate(plain, str(path))
    return [Row(**_paired(row)) for row in plain]


def _paired(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a row, with pairs for the lists that JSON makes of them."""
    pairs = {name: tuple(pair) for name, pair in (row.get("repeated") or {}).items()}
    points = [(distance, share) for distance, share in row.get("curve") or ()]
    tuples = {
        "interval": tuple(row["interval"]),
        "repeated": pairs or None,
        "rejected": tuple(row.get("rejected") or ()) or None,
        "curve": points or None,
    }
    return {**row, **tuples}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _validate(plain: Any, where: str) -> None:
    import jsonschema  # noqa: PLC0415 - slow to import

    try:
        jsonschema.validate(plain, schema())
    except jsonschema.ValidationError as error:
        raise ValueError(f"{where}: {error.json_path} {error.message}") from error


def row(score: Score, **about: Any) -> Row:
    """The row of a measured score; ``about`` gives the fields that a score does not know."""
    return Row(
        images=score.images,
        acc=score.acc,
        robust_acc=score.robust_acc,
        interval=(score.interval.low, score.interval.high),
        asr=score.asr,
        dsr=score.dsr,
        ssim=float(score.ssim.double().mean()),
        l2=float(score.l2.double().mean()),
        linf=float(score.linf.double().mean()),
        seconds_per_image=score.seconds / score.images,
        forwards_per_image=score.forwards / score.images,
        repeated=score.repeated,
        rejected=score.rejected,
        auc=score.auc,
        versions=versions(),
        **about,
    )


@cache
def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "numpy")}
    return {"spearshield": __version__, "python": platform.python_version(), **packages}
