"""Evaluations with scores on disk, so that each evaluation runs only once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.judging.evaluation import EvaluationSettings, evaluate
from spearshield.judging.score import NO_CLASS, REJECTED, TENSORS, Score
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.progress import ProgressBar, no_bar
from spearshield.storage import checkpoint
from spearshield.storage.atomic import write_atomically
from spearshield.storage.digest import digest, network_digest
from spearshield.storage.serialization import dump
from spearshield.types import Images

PICTURES = 10
"""Number of images of each trial that are stored for the report."""


def title(trial: Trial) -> str:
    """The name of a trial in file names and progress bars, as in ``pgd.adaptive``."""
    return f"{name_of(trial.attack)}.{trial.view}"


@dataclass(frozen=True)
class CachedEvaluation:
    """Evaluates one victim and stores each score in a run folder.

    Args:
        name: The name of the victim in the folder.
        folder: The run folder; scores go to ``outcomes/``, the first images to ``pictures/``.
    """

    victim: Defended
    name: str
    folder: Path
    settings: EvaluationSettings

    def __call__(self, trial: Trial, images: Examples, bar: ProgressBar = no_bar) -> Score:
        """The score of the victim under ``trial``, read from the folder or evaluated and stored.

        A stored score is used for the same victim, images, attack, view, seed and draws only.

        Raises:
            ValueError: The stored score is corrupt, or as in
                :func:`spearshield.judging.evaluation.evaluate`.
        """
        key = self._key(trial, images)
        stem = f"{self.name}.{title(trial)}.{key[:8]}"
        path = self.folder / "outcomes" / f"{stem}.safetensors"
        if path.exists():
            stored = checkpoint.load(path)
            if stored["key"] == key:
                bar(len(images), {})
                tensors = {name: stored[name] for name in TENSORS}
                return Score(**tensors, seconds=stored["seconds"], forwards=stored["forwards"])
        first: list[Images] = []

        def keep(x_adv: Images) -> None:
            if sum(len(part) for part in first) < PICTURES:
                first.append(x_adv[:PICTURES].cpu())

        score = evaluate(
            self.victim, trial.attack, images, trial.view, self.settings, bar=bar, keep=keep
        )
        tensors = {name: getattr(score, name) for name in TENSORS}
        cost = {"seconds": score.seconds, "forwards": score.forwards}
        checkpoint.save(path, {"key": key, **tensors, **cost})
        self._save_pictures(stem, trial, images[:PICTURES], torch.cat(first)[:PICTURES], score)
        return score

    def _save_pictures(
        self, stem: str, trial: Trial, images: Examples, x_adv: Images, score: Score
    ) -> None:
        """Store the first images, clean, attacked and purified, for the report."""
        with torch.no_grad():
            x_hat = self.victim.purifier(x_adv.to(self.settings.device, copy=True)).cpu()

        def names(labels: Tensor) -> list[str]:
            other = {REJECTED: "rejected", NO_CLASS: "no class"}
            return [other.get(i) or images.names[i] for i in labels[: len(x_adv)].tolist()]

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
        tensors = {"x": images.images(), "x_adv": x_adv, "x_hat": x_hat}
        body = {key: value.contiguous().clone() for key, value in tensors.items()}
        content = to_bytes(body, {"picture": json.dumps(about)})
        write_atomically(self.folder / "pictures" / f"{stem}.safetensors", content)

    def _key(self, trial: Trial, images: Examples) -> str:
        """The digest of everything that a score depends on."""
        settings = json.dumps([dump(trial), self.settings.seed, self.settings.draws])
        return digest(settings, network_digest(self.victim), images.ids, images.y, images.pixels)
