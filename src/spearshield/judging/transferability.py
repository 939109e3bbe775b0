"""Transferability: how far adversarial images of each classifier fool the others.

Papernot, McDaniel, Goodfellow, "Transferability in Machine Learning: from Phenomena to Black-Box
Attacks using Adversarial Samples", 2016. https://arxiv.org/abs/1605.07277
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spearshield.adversary import Attack
from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.judging.answers import predict
from spearshield.judging.cached_evaluation import OUTCOMES, data_digest, device_name
from spearshield.judging.evaluation import EvaluationSettings, check_attacked, check_victim
from spearshield.judging.float32 import full_float32
from spearshield.judging.interval import Interval
from spearshield.judging.mean_rate import MeanRate
from spearshield.judging.memory import give_back_memory
from spearshield.judging.provenance import Provenance
from spearshield.method import Outcome
from spearshield.progress import Progress, no_progress
from spearshield.rng import Rng, ambient
from spearshield.storage import checkpoint
from spearshield.storage.content import content
from spearshield.storage.digest import digest, weights_digest
from spearshield.storage.installed import source_digest
from spearshield.storage.serialization import dump
from spearshield.types import Labels

Matrix = Float[Tensor, "sources targets"]


@dataclass(frozen=True, eq=False)
class Transferability:
    """The classes that every classifier predicts for adversarial images of every classifier.

    Args:
        names: Names of the classifiers.
        attacks: Names of the attacks.
        y: Labels of the images, of shape (n,).
        clean: Predicted classes of the clean images, of shape (targets, n).
        attacked: Predicted classes of the attacked images, of shape (attacks, sources, targets, n).
        l2: Mean of the norm of the perturbation over the norm of the image, of shape (attacks,
            sources).
    """

    names: tuple[str, ...]
    attacks: tuple[str, ...]
    y: Labels
    clean: Tensor
    attacked: Tensor
    l2: Tensor

    def accuracy(self, attack: int) -> Matrix:
        """Accuracy of every target on the adversarial images of every source."""
        return (self.attacked[attack] == self.y).float().mean(2)

    def asr(self, attack: int) -> Matrix:
        """Attack success rate of every source on every target.

        Of the images that the target classifies correctly, the share that it misclassifies after
        the attack on the source; NaN where it classifies none correctly.
        """
        right = self.clean == self.y
        fooled = (self.attacked[attack] != self.y) & right
        return fooled.sum(2) / right.sum(1)

    def statements(self) -> tuple[str, ...]:
        """The classifier that others fool most, and the one whose images fool others most.

        Success rates are means over all attacks and all other classifiers, with 95 % intervals: see
        :class:`~spearshield.judging.mean_rate.MeanRate`. No statement for a single classifier, and
        none if a classifier is right on no image.
        """
        if len(self.names) < 2 or not (self.clean == self.y).any(1).all():
            return ()
        each = range(len(self.names))
        as_target = [self._mean_rate(self._others(i), [i]) for i in each]
        as_source = [self._mean_rate([i], self._others(i)) for i in each]
        return (
            self._statement("Easiest to fool by adversarial images of the others", as_target),
            self._statement("Adversarial images fool the others most", as_source),
        )

    def _others(self, classifier: int) -> list[int]:
        """The other classifiers."""
        return [i for i in range(len(self.names)) if i != classifier]

    def _mean_rate(self, sources: list[int], targets: list[int]) -> MeanRate:
        """The mean of the success rates of all attacks on some sources, on some targets."""
        right = (self.clean == self.y)[targets].expand(len(self.attacks), len(sources), -1, -1)
        fooled = (self.attacked[:, sources][:, :, targets] != self.y) & right
        return MeanRate(fooled.flatten(0, 2), right.flatten(0, 2))

    def _statement(self, about: str, rates: Sequence[MeanRate]) -> str:
        """A sentence on the classifier with the highest rate, and on the next one."""
        ranked = sorted(range(len(rates)), key=lambda i: -rates[i].value)
        first, second = (rates[i] for i in ranked[:2])
        name, next_name = (self.names[i] for i in ranked[:2])
        lead = first.lead(second)
        verdict = "more than" if lead.low > 0 else "not distinguishable from"
        points = _with_interval(first.value - second.value, lead, "points")
        return (
            f"{about}: {name}, {_with_interval(first.value, first.interval)}; {verdict} "
            f"{next_name}, {_with_interval(second.value, second.interval)}, by {points}."
        )

    def to_json(self) -> dict[str, Any]:
        """Names, shares and statements as JSON values.

        Shares are from 0 to 1, and ``None`` in place of NaN.
        """
        return {
            "classifiers": [*self.names],
            "attacks": [*self.attacks],
            "images": len(self.y),
            "clean_accuracy": (self.clean == self.y).float().mean(1).tolist(),
            "accuracy": [self.accuracy(a).tolist() for a in range(len(self.attacks))],
            "asr": [_or_none(self.asr(a)) for a in range(len(self.attacks))],
            "normalised_l2": self.l2.tolist(),
            "statements": [*self.statements()],
        }


def _or_none(shares: Matrix) -> list[list[float | None]]:
    """The shares, with ``None`` in place of NaN."""
    return [[None if math.isnan(share) else share for share in row] for row in shares.tolist()]


def _with_interval(share: float, interval: Interval, unit: str = "%") -> str:
    """A share in percent, with its interval."""
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * share:.1f} {unit} ({low:.1f} to {high:.1f})"


@full_float32()
def transferability(
    classifiers: Mapping[str, nn.Module],
    attacks: Sequence[Attack],
    images: Examples,
    settings: EvaluationSettings,
    folder: Path,
    progress: Progress = no_progress,
) -> tuple[Transferability, Provenance]:
    """Attack every classifier, and classify the adversarial images by all of them.

    The attacks on one classifier are stored in ``folder`` when they are done; a repeated call
    computes only the missing ones.

    Args:
        classifiers: In evaluation mode, by name. Rejections are not counted, and a random defence
            predicts once for each image.
        attacks: With different names.

    Raises:
        ValueError: There are no images; a classifier does not fit them, or an attack returned an
            image outside its threat model.
    """
    if len(images) == 0:
        raise ValueError("there are no images to attack")
    for network in classifiers.values():
        victim = Outcome(network).defended
        check_victim(victim, images.shape, images.classes, settings.device)
    cells = [
        _Cell(source, attack, classifiers, images, settings, folder)
        for attack in attacks
        for source in classifiers
    ]
    found = [cell(progress) for cell in cells]
    shape = (len(attacks), len(classifiers))
    together = Transferability(
        names=tuple(classifiers),
        attacks=tuple(map(name_of, attacks)),
        y=images.y,
        clean=found[0]["clean"],
        attacked=torch.stack([one["attacked"] for one in found]).view(*shape, len(classifiers), -1),
        l2=torch.stack([one["l2"].mean() for one in found]).view(*shape),
    )
    origin = Provenance.now(
        device_name(settings.device),
        data_digest(images),
        ", ".join(weights_digest(network) for network in classifiers.values()),
    )
    return together, origin


@dataclass(frozen=True, eq=False)
class _Cell:
    """One attack on one classifier, judged by all."""

    source: str
    attack: Attack
    classifiers: Mapping[str, nn.Module]
    images: Examples
    settings: EvaluationSettings
    folder: Path

    def __call__(self, progress: Progress) -> dict[str, Tensor]:
        """The predictions, read from the folder or computed and stored."""
        name = f"{name_of(self.attack)}.{self.source}"
        path = self.folder / OUTCOMES / f"{name}.safetensors"
        key, bar = (
            self._key(),
            progress(f"{name_of(self.attack)} on {self.source}", len(self.images)),
        )
        stored = checkpoint.load(path) if path.exists() else {}
        if stored.get("key") == key:
            bar(len(self.images), {})
            return {part: stored[part] for part in ("clean", "attacked", "l2")}
        parts = []
        for start in range(0, len(self.images), self.settings.batch_size):
            parts.append(self._batch(self.images[start : start + self.settings.batch_size]))
            bar(min(start + self.settings.batch_size, len(self.images)), {})
            give_back_memory()
        done = {
            part: torch.cat([one[part] for one in parts], dim=-1)
            for part in ("clean", "attacked", "l2")
        }
        checkpoint.save(path, {"key": key, **done})
        return done

    def _batch(self, part: Examples) -> dict[str, Tensor]:
        """The predictions for a batch of images."""
        device = self.settings.device
        x, y, ids = part.images(device), part.y.to(device), part.ids.to(device)
        rng = Rng(self.settings.seed, ids)
        with ambient(self.settings.seed):
            x_adv = self.attack(self.classifiers[self.source], x, y, rng=rng)
        check_attacked(x_adv, x, ids, self.attack.threat, name_of(self.attack))
        norm = x.flatten(1).norm(dim=1).clamp(min=1e-12)
        networks = self.classifiers.values()
        return {
            "clean": torch.stack([predict(network, x, y).classes for network in networks]),
            "attacked": torch.stack([predict(network, x_adv, y).classes for network in networks]),
            "l2": ((x_adv - x).flatten(1).norm(dim=1) / norm).cpu(),
        }

    def _key(self) -> str:
        """The digest of everything that the predictions depend on."""
        parts = (content(value).sha256 for value in (self.attack, *self.classifiers.values()))
        about = str((self.source, [*self.classifiers], self.settings.seed))
        return digest(
            *parts,
            about,
            torch.device(self.settings.device).type,
            torch.__version__,
            source_digest(),
            data_digest(self.images),
        )


def described(attacks: Sequence[Attack]) -> list[dict[str, Any]]:
    """Name, norm, budget and settings of each attack, as JSON values."""
    return [
        {
            "name": name_of(attack),
            "threat": attack.threat.norm,
            "eps": attack.threat.eps,
            "settings": dump(attack),
        }
        for attack in attacks
    ]
