"""The transfer matrix of several classifiers, to print and to save."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from spearshield import spelling
from spearshield.adversary import Attack
from spearshield.arguments import check_instance, path, several
from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.experiment.defaults import all_steps, attack_named, budget_for, check_threat
from spearshield.experiment.folders import REMEDY, claim, refuse_others
from spearshield.experiment.subject import differentiable, evaluating, for_model
from spearshield.judging.cached_evaluation import OUTCOMES, data_digest
from spearshield.judging.provenance import Provenance
from spearshield.judging.transferability import Transferability, described
from spearshield.report.transfer import TRANSFER, write_transfer
from spearshield.storage.atomic import write_json
from spearshield.storage.digest import weights_digest
from spearshield.storage.lock import locked
from spearshield.storage.reading import read_json
from spearshield.threat import ThreatModel

MOST = 20
"""Largest number of classifiers in one matrix."""

LONGEST = 100
"""Largest number of bytes of a classifier's name in UTF-8, which is part of names of files."""


@dataclass(frozen=True, eq=False, repr=False)
class TransferMatrix:
    """The result of :func:`spearshield.transfer_matrix`.

    Args:
        measured: The predictions, from which every share follows.
        record: The content of ``transfer.json``.
    """

    measured: Transferability
    record: Mapping[str, Any]

    @property
    def statements(self) -> tuple[str, ...]:
        """The classifier that is easiest to fool, and the one whose images fool others most."""
        return tuple(self.record["statements"])

    def __str__(self) -> str:
        names = self.measured.names
        width = max(8, *map(len, names)) + 2
        lines = []
        for a, attack in enumerate(self.measured.attacks):
            budget = self.record["attack_settings"][a]
            lines.append(
                f"{attack}, {budget['threat']} {spelling.budget(budget['eps'])}: attack success "
                f"rate in percent, {self.record['images']} images"
            )
            lines.append("".join(f"{name:>{width}}" for name in ("from / to", *names)))
            for source, row in zip(names, self.measured.asr(a).tolist(), strict=True):
                cells = "".join(f"{100 * rate:>{width}.1f}" for rate in row)
                lines.append(f"{source:>{width}}{cells}")
        return "\n".join([*lines, *self.statements])

    __repr__ = __str__

    def save(self, folder: str | Path) -> Path:
        """Write ``transfer.html``, ``transfer.md`` and ``transfer.json`` to ``folder``.

        Returns:
            The path of the page.

        Raises:
            ValueError: The folder holds another matrix, or something else.
        """
        target = path("folder", folder)
        refuse_others(target, TRANSFER)
        _check_saved(target, _about(dict(self.record)))
        write_json(target / TRANSFER, dict(self.record))
        return write_transfer(target / TRANSFER, target)


ABOUT = ("classifiers", "attack_settings", "seed")
"""Entries of ``transfer.json`` that show, with digests, which matrix it is."""


def _about(record: Any) -> dict[str, Any]:
    """The entries of a record that show which matrix it is."""
    record = record if isinstance(record, dict) else {}
    origin = record.get("provenance")
    origin = origin if isinstance(origin, dict) else {}
    digests = {key: origin.get(key) for key in ("data_digest", "weights_digest")}
    return {**{key: record.get(key) for key in ABOUT}, **digests}


def _check_saved(folder: Path, about: Mapping[str, Any]) -> None:
    """Raise if a folder has the ``transfer.json`` of another matrix, or one that is unreadable.

    Raises:
        ValueError: Names the folder and the entries that differ, or the file.
    """
    if not (folder / TRANSFER).exists():
        return
    try:
        saved = _about(read_json(folder / TRANSFER))
    except ValueError as error:
        raise ValueError(f"{error}; {REMEDY}, or delete that one") from error
    if other := [
        key for key, value in json.loads(json.dumps(about)).items() if saved[key] != value
    ]:
        raise ValueError(
            f"{folder} holds another transfer matrix (other {', '.join(other)}); {REMEDY}"
        )


def record(
    measured: Transferability,
    attacks: Sequence[Attack],
    images: Examples,
    seed: int,
    origin: Provenance,
) -> dict[str, Any]:
    """The content of ``transfer.json``."""
    return {
        **measured.to_json(),
        "attack_settings": described(attacks),
        "data": images.source,
        "seed": seed,
        "provenance": vars(origin),
    }


@contextmanager
def evaluated(
    classifiers: Mapping[str, nn.Module], images: Examples, device: str | None
) -> Iterator[tuple[dict[str, nn.Module], Examples, str]]:
    """The classifiers in evaluation mode, the images with as many classes, and the device.

    Raises:
        ValueError: There are fewer than two classifiers or too many; a name is empty or too long;
            one is not a classifier, or has another number of classes.
    """
    if not isinstance(classifiers, Mapping) or not 2 <= len(classifiers) <= MOST:
        raise ValueError(
            f"give 2 to {MOST} classifiers by name, as {{'lenet': network, 'cnn': other}}"
        )
    with ExitStack() as stack:
        networks, wheres, sizes = {}, [], {}
        for name, network in classifiers.items():
            check_instance(name, str, "the name of a classifier as text")
            if not name or "/" in name:
                raise ValueError(f"the name of a classifier must be a word, got {name!r}")
            if (size := len(name.encode(errors="replace"))) > LONGEST:
                raise ValueError(
                    f"the name of a classifier has {size} bytes ({name[:20]!r}...); give one of at "
                    f"most {LONGEST}"
                )
            networks[name], where = stack.enter_context(evaluating(network, device))
            wheres.append(where)
            sizes[name] = for_model(networks[name], images).classes
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the classifiers have different numbers of classes: {sizes}")
        if len(set(wheres)) > 1:
            raise ValueError(f"the classifiers are on {', '.join(wheres)}; name one device")
        yield networks, for_model(networks[name], images), wheres[0]


def attacks_of(
    attacks: Attack | str | Sequence[Attack | str], threat: ThreatModel | None, images: Examples
) -> list[Attack]:
    """The attacks of a matrix; those given by name take all of their steps.

    An image that barely fools its source transfers less.

    Raises:
        ValueError: There is no such attack; or two have one name.
    """
    budget = budget_for(threat, images.shape)
    found = [
        all_steps(attack_named(one, budget)) if isinstance(one, str) else one
        for one in several(attacks, (Attack, str))
    ]
    for attack in found:
        check_threat(attack.threat, images.shape)
    names = [one["name"] for one in described(found)]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"give attacks of different names, got {', '.join(names) or 'none'}")
    return found


def check_gradients(
    classifiers: Mapping[str, nn.Module], attacks: Sequence[Attack], images: Examples
) -> None:
    """Raise if an attack needs gradients, and a classifier passes none to its images.

    Raises:
        ValueError: Names the classifier and the attack.
    """
    needy = [attack for attack in attacks if not attack.gradient_free]
    for name, network in classifiers.items() if needy else ():
        if not differentiable(network, images):
            raise ValueError(
                f"{name} passes no gradient to its images, and {name_of(needy[0])} needs one; "
                "leave it out, or choose attacks without gradients, such as square"
            )


@contextmanager
def folder_of(
    folder: Path,
    classifiers: Mapping[str, nn.Module],
    attacks: Sequence[Attack],
    images: Examples,
    seed: int,
) -> Iterator[None]:
    """Locks the folder of a matrix inside the block.

    Raises:
        ValueError: The folder holds another matrix, or something else; or another process uses it.
    """
    refuse_others(folder, TRANSFER)
    own = {"classifiers": [*classifiers], "attack_settings": described(attacks), "seed": seed}
    own["weights_digest"] = ", ".join(map(weights_digest, classifiers.values()))
    _check_saved(folder, {**own, "data_digest": data_digest(images)})
    with locked(folder):
        about = {
            "classifiers": {name: weights_digest(one) for name, one in classifiers.items()},
            "attacks": described(attacks),
            "data": data_digest(images),
            "seed": seed,
        }
        place = folder / OUTCOMES / "about.json"
        if not any(place.parent.glob("*.safetensors")):
            place.unlink(missing_ok=True)  # of a matrix that failed before it began
        claim(place, about, "another transfer matrix")
        yield
