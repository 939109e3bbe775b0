"""Findings on disk, so that a finished part of an examination is not repeated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from spearshield.judging.finding import COULD_NOT_RUN, Finding
from spearshield.storage.atomic import write_json
from spearshield.storage.reading import read_json

EXAMINED = "examined"
"""The folder of findings in a run folder."""


@dataclass(frozen=True)
class StoredFindings:
    """The findings of one part of an examination, in a file.

    Args:
        path: The file.
        key: Digest of everything that the findings depend on. A file with another one is replaced.
    """

    path: Path
    key: str

    def __call__(self, examine: Callable[[], tuple[Finding, ...]]) -> tuple[Finding, ...]:
        """The findings in the file, or else of ``examine``, which are then stored.

        Findings are not stored if a check ended with an error or measured a number that is not
        finite.

        Raises:
            ValueError: The file cannot be read.
        """
        stored = read_json(self.path) if self.path.exists() else {}
        try:
            if stored.get("key") == self.key:
                return tuple(Finding(**finding) for finding in stored["findings"])
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(f"{self.path} holds no findings ({error}); delete it") from error
        found = examine()
        if all(map(_is_final, found)):
            write_json(self.path, {"key": self.key, "findings": [*map(asdict, found)]})
        return found


def _is_final(finding: Finding) -> bool:
    """False if another examination may find something else."""
    return finding.check != COULD_NOT_RUN and all(map(math.isfinite, finding.saw.values()))
