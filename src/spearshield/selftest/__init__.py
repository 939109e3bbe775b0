"""The self-test: audits of flawed defences, feeble attacks and honest models.

Each audit is the same call that a user makes, :func:`spearshield.audit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spearshield import api
from spearshield.progress import Progress, no_progress
from spearshield.selftest.attacks import ATTACKS
from spearshield.selftest.defences import DEFENCES
from spearshield.selftest.honest import HONEST
from spearshield.selftest.networks import THREAT, Networks
from spearshield.selftest.specimen import Judged, Specimen

__all__ = ["IMAGES", "SPECIMENS", "Judged", "Networks", "Specimen", "judge", "selftest"]

IMAGES = 100
"""Number of attacked images: the smallest number for a verdict."""
SPECIMENS = (*DEFENCES, *ATTACKS, *HONEST)


def selftest(
    specimens: Sequence[Specimen] = SPECIMENS, *, progress: Progress = no_progress
) -> Iterator[Judged]:
    """The result of the audit of each specimen, in order.

    Args:
        progress: Opens the bar of the whole self-test.
    """
    networks = Networks(IMAGES)
    bar = progress("self-test of the judge", len(specimens))
    for done, specimen in enumerate(specimens, 1):
        yield judge(specimen, networks)
        bar(done, {})


def judge(specimen: Specimen, networks: Networks) -> Judged:
    """The result of the audit of one specimen."""
    model = specimen.build(networks)
    attacks = [specimen.attack] if specimen.attack else []
    try:
        report = api.audit(
            model, networks.x, networks.y, threat=THREAT, attacks=attacks, progress=False
        )
    except ValueError as error:
        return Judged(specimen, "refused", error=str(error))
    return Judged(specimen, str(report.verdict), report.robust, report.findings)
