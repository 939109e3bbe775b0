"""The rows of results, which evaluations write and reports read. Imports no torch.

``results.json`` is a list of rows; the dataclass :class:`Row` is the only definition of its schema,
and ``docs/evaluation.md`` defines every field.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from spearshield.judging.finding import Finding, Verdict
from spearshield.judging.schema import from_json, keywords, schema_of
from spearshield.storage.reading import read_json, shortened

if TYPE_CHECKING:
    from spearshield.judging.provenance import Provenance
    from spearshield.judging.score import Score

WORST_CASE = "worst_case"
"""The ``attack`` and ``view`` of the row with the per-image worst case over all trials."""

Text: TypeAlias = Annotated[str, keywords(minLength=1)]
Count: TypeAlias = Annotated[int, keywords(minimum=1)]
Share: TypeAlias = Annotated[float, keywords(minimum=0, maximum=1)]
Size: TypeAlias = Annotated[float, keywords(minimum=0)]
Budget: TypeAlias = Annotated[float, keywords(exclusiveMinimum=0)]
Similarity: TypeAlias = Annotated[float, keywords(minimum=-1, maximum=1.000001)]
CleanAndAttacked: TypeAlias = tuple[Share, Share]
Statistic: TypeAlias = Literal["one_shot", "worst_of", "vote", "fixed_seed"]
Versions: TypeAlias = Annotated[
    dict[str, str], keywords(required=["python", "spearshield", "torch"])
]
Curve: TypeAlias = Annotated[list[tuple[Size, Share]], keywords(minItems=2)]


@dataclass(frozen=True)
class Row:
    """The result of one trial: one victim, one attack, one view, one set of images.

    Shares are between 0 and 1, and ``None`` if their denominator is 0. Distances are means over all
    images, on the [0, 1] pixel scale. Fields with a default may be absent from a file.

    Args:
        recipe, data, split, images: Recipe, data set, split, and number of images.
        classifier: Architecture of the classifier.
        method: Name of the defence.
        attack: Name of the attack; ``worst_case`` for the worst case over all trials.
        threat: Norm of the threat model, such as ``Linf`` or ``L2``.
        eps: Budget in that norm.
        view: The view of the attacker; ``worst_case`` for the worst case.
        acc: Clean accuracy of the victim.
        robust_acc: Share of images that the victim classifies correctly before the attack, and
            classifies correctly or rejects after it.
        interval: 95 % Wilson interval of ``robust_acc``.
        asr: Attack success rate: among the images that the bare classifier classifies correctly,
            the share that it misclassifies after the attack.
        dsr: Defence success rate: among the successes of ``asr``, the share that the victim
            classifies correctly or rejects.
        ssim: Structural similarity of clean and attacked images.
        l2, linf: Norms of the perturbation.
        seconds_per_image, forwards_per_image: Cost of the attack.
        seed, device, versions: Seed, device, and versions of Python and packages, of the
            measurement. Where the parts of a worst case differ, all values are listed.
        parameters: Hyper-parameters of data, classifier, training, method, attack and view.
        attacked: For a trial: number of images that it attacked.
        broke: For a trial: number of these images that it broke by itself.
        proved: For a worst case: share of images that a certificate proves robust.
        verdict: For a worst case: ``not examined``, ``not trustworthy``, ``broken`` or ``no flaw
            found``; see ``docs/evaluation.md``.
        findings: For a worst case: the reasons to doubt it, each with the fields of
            :class:`~spearshield.judging.finding.Finding`.
        repeated: For a random victim: accuracy on clean and on attacked images, by the statistic
            over its repeated predictions.
        rejected: For a victim that rejects images: the rejected shares of clean and of attacked
            images.
        auc: For a victim with a detector: area under its ROC curve.
        normalised_l2: Mean of the L2 norm of the perturbation, divided by the L2 norm of the image.
        curve: For an attack that searches for the smallest perturbation: distances from 0 to
            ``eps``, each with the robust accuracy at that distance.
        command: The command that measured the row, such as ``spearshield run mnist_purifiers``.
        commit: The git commit of the package's checkout; ``None``: it was installed.
        data_digest: Digest of all images of the evaluation, their labels and ids.
        weights_digest: Digest of the victim's weights.
        created: Time of the measurement, in UTC, in the notation of ISO 8601.
        reused: True if all of it was measured in an earlier run, to which ``command``, ``commit``,
            ``versions``, ``device`` and ``created`` then refer.
    """

    recipe: Text
    data: Text
    split: Literal["train", "validation", "test"]
    images: Count
    classifier: Text
    method: Text
    attack: Text
    threat: Text
    eps: Budget
    view: Text
    acc: Share
    robust_acc: Share
    interval: tuple[Share, Share]
    asr: Share | None
    dsr: Share | None
    ssim: Similarity
    l2: Size
    linf: Size
    seconds_per_image: Size
    forwards_per_image: Size
    seed: int
    device: Text
    versions: Versions
    parameters: dict[str, Any]
    attacked: int | None = None
    broke: int | None = None
    proved: Share | None = None
    verdict: Verdict | None = None
    findings: list[Annotated[dict[str, Any], Finding]] = field(default_factory=list)
    repeated: dict[Statistic, CleanAndAttacked] | None = None
    rejected: CleanAndAttacked | None = None
    auc: Share | None = None
    normalised_l2: Size | None = None
    curve: Curve | None = None
    command: Text | None = None
    commit: Text | None = None
    data_digest: Text | None = None
    weights_digest: Text | None = None
    created: Text | None = None
    reused: bool = False

    @property
    def broken(self) -> float | None:
        """Success rate of the attack on the victim.

        Of the images that the victim classifies correctly before the attack, the share that it
        misclassifies after it, without rejection; ``None`` if it classifies none correctly.
        """
        return max(0.0, 1 - self.robust_acc / self.acc) if self.acc else None

    @property
    def alone(self) -> str | None:
        """The images that the attack of the row broke, as "3/20"; ``None`` if not recorded."""
        if self.broke is None or self.attacked is None:
            return None
        return f"{self.broke}/{self.attacked}"

    @property
    def unaware(self) -> bool:
        """True if the attack was made on the bare classifier or on another model.

        Only then do ``asr`` and ``dsr`` measure what the attack aimed at.
        """
        return self.view in ("oblivious", "transferred")


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of ``results.json``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:spearshield:results",
        "title": "spearshield results",
    } | schema_of(list[Row])


def to_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows as JSON values.

    Raises:
        ValueError: A row violates the schema.
    """
    values: list[dict[str, Any]] = json.loads(json.dumps([asdict(row) for row in rows]))
    _validate(values, "the rows")
    return values


def read(path: Path) -> list[Row]:
    """The rows of a ``results.json``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not JSON or violates the schema; names the file and the field.
    """
    if not path.exists():
        raise FileNotFoundError(f"no {path}; `spearshield run` or `audit` writes it")
    values = read_json(path)
    _validate(values, str(path))
    rows: list[Row] = from_json(list[Row], values)
    return rows


def _validate(values: Any, source: str) -> None:
    import jsonschema  # noqa: PLC0415 - slow to import

    try:
        jsonschema.validate(values, schema())
    except jsonschema.ValidationError as error:
        place = shortened(error.json_path)
        raise ValueError(f"{source}: {place} {shortened(error.message, 300)}") from error


def row(score: Score, provenance: Provenance, **about: Any) -> Row:
    """The row of a score.

    Args:
        about: The fields that follow from neither the score nor its provenance.
    """
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
        normalised_l2=float(score.normalised_l2.double().mean()),
        seconds_per_image=score.seconds / score.images,
        forwards_per_image=score.forwards / score.images,
        repeated=score.repeated,
        rejected=score.rejected,
        auc=score.auc,
        **vars(provenance),
        **about,
    )
