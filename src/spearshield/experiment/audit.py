"""The result of an audit: rows, findings and pictures, to print and to save."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from spearshield.judging import results
from spearshield.judging.checks import Finding
from spearshield.judging.results import WORST_CASE, Row
from spearshield.report import words, write_report
from spearshield.storage.atomic import write_json

RESULTS = "results.json"


@dataclass(frozen=True, eq=False)
class Report:
    """The result of an audit.

    Args:
        rows: One row for each attack, and the worst case over them last.
        folder: Where the outcomes and pictures are kept.
    """

    rows: tuple[Row, ...]
    folder: Path

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
        low, high = (100 * bound for bound in self.interval)
        unaware = [row for row in attacks if row.view == "oblivious"]
        lines = [
            f"{worst.classifier}, {worst.method}: {worst.images} {worst.split} images, "
            f"{worst.threat} {words.budget(worst.eps)}",
            f"  clean accuracy    {100 * self.clean:5.1f} %",
            f"  robust accuracy   {100 * self.robust:5.1f} %  "
            f"95 % interval {low:.1f} to {high:.1f}, worst case over {len(attacks)} attacks",
        ]
        if worst.broken is not None:
            lines.append(
                f"  broken            {100 * worst.broken:5.1f} %  of the images that it gets right"
            )
        if unaware:
            lowest = min(row.robust_acc for row in unaware)
            lines.append(f"  unaware attacker  {100 * lowest:5.1f} %  attacks the classifier alone")
        lines.append(f"  verdict           {self.verdict}")
        lines += [f"  {found}" for found in self.findings]
        return "\n".join(lines)

    def save(self, folder: str | Path) -> Path:
        """Write ``report.html``, ``report.md``, ``results.json`` and the pictures to ``folder``.

        Returns:
            The path of the page.

        Raises:
            OSError: As on a full disk.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        pictures = self.folder / "pictures"
        if pictures.is_dir() and target.resolve() != self.folder.resolve():
            shutil.copytree(pictures, target / "pictures", dirs_exist_ok=True)
        write_json(target / RESULTS, results.to_json([*self.rows]))
        write_report([target], target)
        return target / "report.html"
