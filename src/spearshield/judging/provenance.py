"""The origin of a measured number: command, code, data, weights, versions, device and time.

Imports no torch.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from spearshield import __version__
from spearshield.storage import installed

command: ContextVar[str | None] = ContextVar("command", default=None)
"""The command line of this process, which the command ``spearshield`` sets and rows record."""


@dataclass(frozen=True)
class Provenance:
    """The origin of an outcome.

    Args:
        command: The command that measured it; ``None``: a call from Python.
        commit: The git commit of the package's checkout; ``None``: the package is installed.
        data_digest: Digest of the images, their labels and ids.
        weights_digest: Digest of the victim's weights.
        versions: Versions of Python and of the packages that results depend on.
        device: Device and its name, such as ``cpu (AMD EPYC)``.
        created: End of the measurement, in UTC, in the notation of ISO 8601.
        reused: True if it was measured in an earlier run.
    """

    command: str | None
    commit: str | None
    data_digest: str
    weights_digest: str
    versions: dict[str, str]
    device: str
    created: str
    reused: bool = False

    @staticmethod
    def now(device: str, data_digest: str, weights_digest: str) -> Provenance:
        """The provenance of an outcome that was measured just now, on ``device``."""
        return Provenance(
            command=command.get(),
            commit=installed.commit(),
            data_digest=data_digest,
            weights_digest=weights_digest,
            versions=versions(),
            device=device,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )

    @staticmethod
    def of_all(parts: Sequence[Provenance]) -> Provenance:
        """The provenance of a result of several outcomes.

        The time is the latest. It is reused if all parts are. Values that differ are listed, the
        value of the earliest part first.

        Raises:
            ValueError: There are no parts.
        """
        if not parts:
            raise ValueError("there are no parts")
        ordered = sorted(parts, key=lambda part: part.created)
        names = dict.fromkeys(name for part in ordered for name in part.versions)
        return Provenance(
            command=_listed([part.command for part in ordered], "; ") or None,
            commit=_listed([part.commit for part in ordered]) or None,
            data_digest=_listed([part.data_digest for part in ordered]),
            weights_digest=_listed([part.weights_digest for part in ordered]),
            versions={name: _listed([p.versions.get(name) for p in ordered]) for name in names},
            device=_listed([part.device for part in ordered]),
            created=ordered[-1].created,
            reused=all(part.reused for part in parts),
        )


def _listed(values: Sequence[str | None], separator: str = ", ") -> str:
    """The different values in order, separated; values that lists contain already occur once."""
    single = [one for value in values if value for one in value.split(separator)]
    return separator.join(dict.fromkeys(single))


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "numpy")}
    return {"spearshield": __version__, "python": platform.python_version(), **packages}


@cache
def processor() -> str:
    """The name of the processor; empty if the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
