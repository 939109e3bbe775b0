"""The result of an audit: rows, findings and pictures, to print and to save."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spearshield import spelling
from spearshield.arguments import path
from spearshield.experiment.folders import AUDIT, RESULTS, claim, refuse_others
from spearshield.experiment.subject import Subject
from spearshield.judging import results
from spearshield.judging.cached_evaluation import OUTCOMES, data_digest
from spearshield.judging.checks import Finding
from spearshield.judging.results import WORST_CASE, Row
from spearshield.judging.trial import Trial
from spearshield.report import words, write_report
from spearshield.storage.atomic import write_json
from spearshield.storage.digest import weights_digest
from spearshield.storage.lock import locked
from spearshield.storage.serialization import dump


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """The result of an audit.

    Args:
        rows: One row for each attack, and the worst case over them last.
        folder: Where the outcomes and pictures are kept.
        record: What the numbers are about; the content of ``audit.json``.
    """

    rows: tuple[Row, ...]
    folder: Path
    record: Mapping[str, Any]

    @property
    def worst(self) -> Row:
        """The row of the worst case over all attacks."""
        return [row for row in self.rows if row.attack == WORST_CASE][-1]

    @property
    def clean(self) -> float:
        """Accuracy on the clean images, from 0 to 1."""
        return self.worst.acc

    @property
    def robust(self) -> float:
        """Robust accuracy, from 0 to 1: the worst case over all attacks, image by image."""
        return self.worst.robust_acc

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of :attr:`robust`."""
        return self.worst.interval

    @property
    def verdict(self) -> str | None:
        """Whether the number can be trusted; see ``docs/evaluation.md``."""
        return self.worst.verdict

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The reasons to doubt the number."""
        return tuple(Finding(**found) for found in self.worst.findings)

    def __str__(self) -> str:
        worst = self.worst
        attacks = [row for row in self.rows if row.attack != WORST_CASE]
        tried = words.counted(len(attacks), "attack")
        low, high = (100 * bound for bound in self.interval)
        unaware = [row for row in attacks if row.view == "oblivious"]
        lines = [
            f"{worst.classifier}, {worst.method}: {worst.images} {worst.split} images, "
            f"{worst.threat} {spelling.budget(worst.eps)}",
            f"  clean accuracy    {100 * self.clean:5.1f} %",
            f"  robust accuracy   {100 * self.robust:5.1f} %  "
            f"95 % interval {low:.1f} to {high:.1f}, worst of {tried}",
        ]
        if worst.broken is not None:
            lines.append(
                f"  broken            {100 * worst.broken:5.1f} %  of the images that it gets right"
            )
        if worst.proved is not None:
            lines.append(f"  proved robust     {100 * worst.proved:5.1f} %  by a certificate")
        lines += [f"  {line}" for line in words.repeated(worst)]
        if unaware:
            lowest = min(row.robust_acc for row in unaware)
            lines.append(f"  unaware attacker  {100 * lowest:5.1f} %  attacks the classifier alone")
        if worst.verdict:
            lines.append(f"  verdict           {worst.verdict}: {words.WHY[worst.verdict]}")
            lines.append(f"  next              {words.NEXT[worst.verdict]}")
        if reused := sum(row.reused for row in attacks):
            lines.append(f"  reused            {reused} of {len(attacks)} attacks, of earlier runs")
        lines += [f"  {found}" for found in self.findings]
        return "\n".join(lines)

    __repr__ = __str__

    def save(self, folder: str | Path) -> Path:
        """Write ``report.html``, ``report.md``, ``results.json`` and the pictures to ``folder``.

        Returns:
            The path of the page.

        Raises:
            ValueError: The folder holds another audit, or something else.
            OSError: As on a full disk.
        """
        target = path("folder", folder)
        _claim(target, self.record)
        pictures = self.folder / "pictures"
        if pictures.is_dir() and target.resolve() != self.folder.resolve():
            shutil.copytree(pictures, target / "pictures", dirs_exist_ok=True)
        write_json(target / RESULTS, results.to_json([*self.rows]))
        write_report([target], target)
        return target / "report.html"


@contextmanager
def folder_of(
    folder: Path, subject: Subject, trials: Sequence[Trial], limit: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Locks the folder of an audit inside the block, and yields the content of its ``audit.json``.

    Raises:
        ValueError: The folder holds another audit, or something else; or another process uses it.
    """
    refuse_others(folder, AUDIT)
    with locked(folder):
        record = _record(subject, trials, limit, seed)
        _claim(folder, record)
        yield record


def _record(subject: Subject, trials: Sequence[Trial], limit: int, seed: int) -> dict[str, Any]:
    """What the numbers of an audit are about, as JSON values."""
    images = subject.sample(limit)
    return {
        "method": subject.name,
        "classifier": subject.about["classifier"],
        "weights": weights_digest(subject.outcome.defended),
        "images": len(images),
        "data": data_digest(images),
        "trials": [dump(trial, weights_digest) for trial in trials],
        "seed": seed,
    }


def _claim(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of an audit, or verify that it is the record in the folder."""
    refuse_others(folder, AUDIT)
    measured = (folder / RESULTS).exists() or any((folder / OUTCOMES).glob("*"))
    if not measured:
        (folder / AUDIT).unlink(missing_ok=True)  # of an audit that failed before it began
    claim(folder / AUDIT, record, "the result of another audit")
