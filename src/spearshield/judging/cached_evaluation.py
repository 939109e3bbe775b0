"""Evaluations with scores on disk, each with its provenance, so that nothing is measured twice."""

from __future__ import annotations

import json
import operator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial, reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.judging.answers import CleanAnswers
from spearshield.judging.evaluation import EvaluationSettings, evaluate
from spearshield.judging.feature_space import FeatureSpace
from spearshield.judging.provenance import Provenance, processor
from spearshield.judging.score import NO_CLASS, REJECTED, TENSORS, Score
from spearshield.judging.shared_images import SharedImages
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.progress import Latest, ProgressBar, no_bar
from spearshield.storage import checkpoint
from spearshield.storage.atomic import write_atomically
from spearshield.storage.content import content
from spearshield.storage.digest import digest, weights_digest
from spearshield.storage.installed import source_digest
from spearshield.storage.serialization import dump
from spearshield.types import Images
from spearshield.views import Adaptive, Oblivious

OUTCOMES, SHARED = "outcomes", "shared_images"
"""The folders of scores, and of adversarial images for several victims, in a run folder."""

SHARD = 10_000
"""Most images whose scores are stored in one file."""

PICTURES = 10
"""Number of images of each trial that are stored for the report."""

FEATURES = 100
"""Number of images of each trial whose features are stored for the report."""


def title(trial: Trial) -> str:
    """The name of a trial in file names and progress bars, as in ``pgd.adaptive``."""
    return f"{name_of(trial.attack)}.{trial.view}"


def data_digest(images: Examples) -> str:
    """The digest of images, their labels and their ids."""
    return digest(images.ids, images.y, images.content)


class StoredScoreError(ValueError):
    """A stored score cannot be read."""


def _load(path: Path) -> dict[str, Any]:
    """The stored score in a file; empty if there is no such file."""
    try:
        stored = checkpoint.load(path) if path.exists() else {}
        if not isinstance(stored, dict):
            raise ValueError(f"{path} holds no score; delete it")
    except ValueError as error:
        raise StoredScoreError(str(error)) from error
    return stored


class Measurement(NamedTuple):
    """A score and its origin."""

    score: Score
    provenance: Provenance


@dataclass(frozen=True)
class CachedEvaluation:
    """Evaluates one victim and stores each score in a run folder.

    Args:
        name: The name of the victim in the folder.
        folder: The run folder; scores go to ``outcomes/``, the first images to ``pictures/``.
        data: Digest of all images of the evaluation, of which a trial may attack some.
    """

    victim: Defended
    name: str
    folder: Path
    settings: EvaluationSettings
    data: str

    def __call__(self, trial: Trial, images: Examples, bar: ProgressBar = no_bar) -> Measurement:
        """The score of the victim under ``trial``, read from the folder or evaluated and stored.

        A stored score is used only if nothing that it depends on has changed: the victim with its
        code, the attack, the view, the images, the seed, the draws, the kind of device, and the
        versions of torch and of this package. Otherwise it is replaced.

        Many images are evaluated and stored in shards, so that a stopped evaluation goes on with
        the shard that it stopped in.

        Raises:
            StoredScoreError: The stored score is corrupt.
            ValueError: As in
                :func:`spearshield.judging.evaluation.evaluate`.
        """
        settings = json.dumps(
            [dump(trial, weights_digest), self.settings.seed, self.settings.draws]
        )
        stem = f"{self.name}.{title(trial)}.{digest(settings)[:8]}"
        if len(images) <= SHARD:
            return self._measured(stem, trial, images, bar)
        parts = []
        for start in range(0, len(images), SHARD):
            shard, done = f"{stem}.{start // SHARD:06d}", partial(_further, bar, start)
            part = images[start : start + SHARD]
            parts.append(self._measured(shard, trial, part, done, pictures=start == 0))
        score = reduce(operator.add, [part.score for part in parts])
        return Measurement(score, Provenance.of_all([part.provenance for part in parts]))

    def _measured(
        self,
        stem: str,
        trial: Trial,
        images: Examples,
        bar: ProgressBar,
        pictures: bool = True,
    ) -> Measurement:
        """The score on the images of one file.

        Args:
            stem: The name of the file.
            pictures: Store the first images for the report.
        """
        key = self.key(images, trial)
        path = self.folder / OUTCOMES / f"{stem}.safetensors"
        stored = _load(path)
        if stored.get("key") == key:
            bar(len(images), {})
            try:
                return self._reused(stored)
            except (LookupError, TypeError, ValueError) as error:
                raise StoredScoreError(f"{path} holds no score ({error}); delete it") from error
        shared = self._shared(trial, images)
        known = _load(shared.path) if shared else {}
        kept: list[Images] = []

        def keep(x_adv: Images) -> None:
            if shared or sum(len(part) for part in kept) < FEATURES:
                kept.append((x_adv if shared else x_adv[:FEATURES]).cpu())

        score = evaluate(
            self.victim,
            shared.replayed(known) if shared and known else trial.attack,
            images,
            trial.view,
            self.settings,
            clean=self._clean,
            bar=bar,
            keep=keep,
        )
        if known:
            score = replace(score, seconds=known["seconds"], forwards=known["forwards"])
        elif shared:
            shared.store(torch.cat(kept), score)
        tensors = {name: getattr(score, name) for name in TENSORS}
        cost = {"seconds": score.seconds, "forwards": score.forwards}
        origin = Provenance.now(device_name(self.settings.device), self.data, self._weights)
        if pictures:
            self._save_pictures(stem, trial, images[:FEATURES], torch.cat(kept)[:FEATURES], score)
        checkpoint.save(path, {"key": key, **tensors, **cost, "provenance": asdict(origin)})
        return Measurement(score, origin)

    def _shared(self, trial: Trial, images: Examples) -> SharedImages | None:
        """The images that every purifier of this classifier is given; ``None`` for other views."""
        alone = isinstance(trial.view, Adaptive) and len(self.victim.purifiers) == 0
        if not (alone or isinstance(trial.view, Oblivious)):
            return None
        folder = self.folder / SHARED
        settings = self.settings
        return SharedImages.of(
            trial.attack, self.victim.classifier, images, folder, settings.seed, settings.device
        )

    def _reused(self, stored: dict[str, Any]) -> Measurement:
        """The measurement in a file, as part of this evaluation."""
        tensors = {name: stored[name] for name in TENSORS}
        score = Score(**tensors, seconds=stored["seconds"], forwards=stored["forwards"])
        origin = stored["provenance"] | {"data_digest": self.data, "reused": True}
        return Measurement(score, Provenance(**origin))

    @cached_property
    def _clean(self) -> CleanAnswers:
        return CleanAnswers(self.victim, self.settings.draws)

    @cached_property
    def _weights(self) -> str:
        return weights_digest(self.victim)

    def _save_pictures(
        self, stem: str, trial: Trial, images: Examples, x_adv: Images, score: Score
    ) -> None:
        """Store the first images for the report: clean, attacked and purified, and features."""
        purified = not isinstance(self.victim.purifier, nn.Identity)
        kept = FEATURES if purified else PICTURES
        x, x_adv = images.images()[:kept], x_adv[:kept]
        parts = torch.split(x_adv, self.settings.batch_size)
        with torch.no_grad():
            x_hat = torch.cat(
                [self.victim.purifier(p.to(self.settings.device, copy=True)).cpu() for p in parts]
            )
        stages = {"x": x, "x_adv": x_adv, "x_hat": x_hat}
        features = self._features(*stages.values()) if purified else {}

        def names(labels: Tensor) -> list[str]:
            other = {REJECTED: "rejected", NO_CLASS: "no class"}
            return [other.get(i) or images.names[i] for i in labels[:PICTURES].tolist()]

        about = {
            "method": self.name,
            "attack": name_of(trial.attack),
            "view": str(trial.view),
            "threat": trial.attack.threat.norm,
            "eps": trial.attack.threat.eps,
            "parameters": dump(trial.attack),
            "truth": names(score.y),
            "bare_clean": names(score.bare_clean),
            "bare_adv": names(score.bare_adv),
            "victim_clean": names(score.victim_clean),
            "victim_adv": names(score.victim_adv),
        }
        tensors = {name: stage[:PICTURES] for name, stage in stages.items()} | features
        body = {key: value.contiguous().clone() for key, value in tensors.items()}
        content = to_bytes(body, {"picture": json.dumps(about)})
        write_atomically(self.folder / "pictures" / f"{stem}.safetensors", content)

    def _features(self, *stages: Images) -> dict[str, Tensor]:
        """Clean, attacked and purified images in the features of the classifier, if finite."""
        device = self.settings.device
        space = FeatureSpace.of(self.victim.classifier, *(stage.to(device) for stage in stages))
        if not space.finite:
            return {}
        return {"feature_plane": space.plane, "feature_distances": torch.stack(space.distances)}

    def key(self, images: Examples, *values: Any) -> str:
        """The digest of everything that a result for the victim depends on.

        It never occurs again if something cannot be determined.

        Args:
            values: Values beside victim, images and settings, such as the trial.
        """
        parts = (
            *(content(value).sha256 for value in (*values, self.victim)),
            str((self.settings.seed, self.settings.draws)),
            torch.device(self.settings.device).type,
            torch.__version__,
            source_digest(),
        )
        return digest(*parts, data_digest(images))


def _further(bar: ProgressBar, start: int, done: int, values: Latest) -> None:
    """Moves a bar that counts from ``start``."""
    bar(start + done, values)


def device_name(device: str) -> str:
    """A device with the name of its processor, such as ``cpu (AMD EPYC)``."""
    cuda = torch.device(device).type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else processor()
    return f"{device} ({name})" if name else device
