"""An evaluation that is kept on disk, so that it is measured once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.judging.evaluation import EvaluationSettings, evaluate
from spearshield.judging.score import TENSORS, Score
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.progress import ProgressBar, no_bar
from spearshield.storage import checkpoint
from spearshield.storage.atomic import write_atomically
from spearshield.storage.serialization import dump
from spearshield.types import Images

PICTURED = 10


def title(trial: Trial) -> str:
    """The trial's name in file names and progress bars."""
    return f"{name_of(trial.attack)}.{trial.view}"


@dataclass(frozen=True)
class CachedEvaluation:
    """Evaluates one victim, and keeps each outcome in a run folder.

    Args:
        name: The victim's name in the folder.
        folder: The run folder; outcomes go to ``outcomes/``, the first images to ``pictures/``.
    """

    victim: Defended
    name: str
    folder: Path
    settings: EvaluationSettings

    def __call__(self, trial: Trial, images: Examples, bar: ProgressBar = no_bar) -> Score:
        """The score of the victim under ``trial``: read from the folder, else measured and written.

        A stored outcome counts only for the same weights, images, attack, view and seed.

        Raises:
            ValueError: The stored outcome is corrupt; or see
                :func:`spearshield.judging.evaluation.evaluate`.
        """
        key = self.key(trial, images)
        stem = f"{self.name}.{title(trial)}.{key[:8]}"
        path = self.folder / "outcomes" / f"{stem}.safetensors"
        if path.exists():
            saved = checkpoint.load(path)
            if saved["key"] == key:
                bar(len(images), {})
                tensors = {field: saved[field] for field in TENSORS}
                return Score(**tensors, seconds=saved["seconds"], forwards=saved["forwards"])
        first: list[Images] = []

        def keep(x_adv: Images) -> None:
            if sum(len(part) for part in first) < PICTURED:
                first.append(x_adv[:PICTURED].cpu())

        score = evaluate(
            self.victim, trial.attack, images, trial.view, self.settings, bar=bar, keep=keep
        )
        outcome = {field: getattr(score, field) for field in TENSORS}
        cost = {"seconds": score.seconds, "forwards": score.forwards}
        checkpoint.save(path, {"key": key, **outcome, **cost})
        self.picture(stem, trial, images[:PICTURED], torch.cat(first)[:PICTURED], score)
        return score

    def picture(
        self, stem: str, trial: Trial, images: Examples, x_adv: Images, score: Score
    ) -> None:
        """Write the first images, attacked and purified, for the report."""
        with torch.no_grad():
            x_hat = self.victim.purifier(x_adv.to(self.settings.device)).cpu()
        count = len(x_adv)

        def named(labels: Tensor) -> list[str]:
            names = (*images.names, "rejected")  # REJECTED is -1, the last
            return [names[i] for i in labels[:count].tolist()]

        about = {
            "method": self.name,
            "attack": name_of(trial.attack),
            "view": str(trial.view),
            "threat": trial.attack.threat.norm,
            "eps": trial.attack.threat.eps,
            "parameters": dump(trial.attack),
            "truth": named(score.y),
            "bare_clean": named(score.bare_clean),
            "bare_adv": named(score.bare_adv),
            "victim_clean": named(score.victim_clean),
            "victim_adv": named(score.victim_adv),
        }
        tensors = {"x": images.images(), "x_adv": x_adv, "x_hat": x_hat}
        body = {key: value.contiguous().clone() for key, value in tensors.items()}
        content = to_bytes(body, {"picture": json.dumps(about)})
        write_atomically(self.folder / "pictures" / f"{stem}.safetensors", content)

    def key(self, trial: Trial, images: Examples) -> str:
        """A digest of all that an outcome depends on."""
        settings = self.settings
        digest = hashlib.sha256(json.dumps([dump(trial), settings.seed, settings.draws]).encode())
        weights = self.victim.state_dict().values()
        for value in (*weights, images.ids, images.y, images.pixels):
            content = value.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(content.numpy())
        return digest.hexdigest()
