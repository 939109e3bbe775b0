"""Adversarial sets on disk: exact floats, and 8-bit PNG files.

Both forms are read back from disk and scored, because rounding to 8 bits can undo an attack. Pixels
are rounded towards the clean image, so that the perturbation does not grow.
"""

from __future__ import annotations

import io
import json
import operator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from spearshield.arguments import path
from spearshield.dataset import Examples
from spearshield.judging.answers import CleanAnswers
from spearshield.judging.evaluation import EvaluationSettings, evaluate, score_attacked
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.progress import ProgressBar, no_bar
from spearshield.spelling import known
from spearshield.storage.atomic import new_folder, write_atomically, write_json
from spearshield.storage.images import quantize_towards, stack
from spearshield.storage.images import read as read_picture
from spearshield.storage.serialization import dump
from spearshield.types import Images, Labels, Mask

Format: TypeAlias = Literal["safetensors", "npz"]
INDEX = "set.json"


@dataclass(frozen=True)
class FormScore:
    """The score of one form of an adversarial set, from its files.

    Args:
        form: "float32" or "8-bit PNG".
        outside: Number of images outside the threat model, beyond a tolerance for rounding.
    """

    form: str
    score: Score
    outside: int


@dataclass(frozen=True, eq=False)
class AdversarialSet:
    """Adversarial images in memory, with their clean images, their attack and their score.

    Args:
        victim: The victim that was attacked.
        trial: The attack and its view.
        examples: The clean images and their labels.
        x_adv: The adversarial images: float32 in [0, 1], of shape (n, c, h, w).
        score: The predictions of the victim on the clean and on the adversarial images.
        settings: Seed, draws, batch size and device of the attack.
    """

    victim: Defended
    trial: Trial
    examples: Examples
    x_adv: Images
    score: Score
    settings: EvaluationSettings

    @property
    def x(self) -> Images:
        """The clean images: float32 in [0, 1], of shape (n, c, h, w)."""
        return self.examples.images()

    @property
    def y(self) -> Labels:
        """The true class ids, of shape (n,)."""
        return self.examples.y

    @property
    def success(self) -> Mask:
        """True for each image that is not robust: misclassified before or after the attack."""
        return ~self.score.robust

    def save(self, folder: str | Path, form: Format = "safetensors") -> list[FormScore]:
        """Write the set to ``folder``, read it back, and score the victim on the files.

        The folder gets ``adversarial.safetensors`` or ``adversarial.npz`` with x, x_adv (float32,
        (n, c, h, w), in [0, 1]), y and ids; ``png/ID-CLASS.png``; and ``set.json`` with the attack,
        the seed and the scores on the files.

        Raises:
            ValueError: There is a file, or a folder with content; or ``form`` is unknown.
        """
        form = known(form, get_args(Format), "form")
        with new_folder(path("folder", folder)) as made:
            return self._write(made, form)

    def _write(self, folder: Path, form: Format) -> list[FormScore]:
        images = self.examples
        about = {
            "trial": dump(self.trial),
            "seed": self.settings.seed,
            "names": list(images.names),
        }
        floats = folder / f"adversarial.{form}"
        tensors = {"x": self.x, "x_adv": self.x_adv, "y": self.y, "ids": images.ids}
        write_atomically(floats, _to_bytes(tensors, about, form))
        files = self._write_pngs(folder)
        pngs = torch.stack([read_png(folder / file, images.shape[0]) for file in files])
        scores = [self._score("float32", read(floats)), self._score("8-bit PNG", pngs)]
        summaries = {scored.form: _summary(scored) for scored in scores}
        counts = {"images": len(images), "scores": summaries, "files": files}
        write_json(folder / INDEX, {**about, **counts})
        return scores

    def _write_pngs(self, folder: Path) -> list[str]:
        """Write each image to ``png/ID-CLASS.png``; returns the paths within ``folder``."""
        labels = zip(self.examples.ids, self.y, strict=True)
        files = [f"png/{i:06d}-{label}.png" for i, label in labels]
        for file, image in zip(files, quantize_towards(self.x_adv, self.x), strict=True):
            write_png(folder / file, image)
        return files

    def _score(self, form: str, x_adv: Images) -> FormScore:
        """The score of the victim on the images of one form, in batches."""
        settings, scores, outside = self.settings, list[Score](), 0
        clean = CleanAnswers(self.victim, settings.draws)
        for start in range(0, len(self.examples), settings.batch_size):
            part = self.examples[start : start + settings.batch_size]
            x, y = part.images(settings.device), part.y.to(settings.device)
            attacked = x_adv[start : start + settings.batch_size].to(settings.device)
            scores.append(score_attacked(clean, x, attacked, y, part.ids))
            outside += int((~self.trial.attack.threat.contains(attacked, x)).sum())
        return FormScore(form, reduce(operator.add, scores), outside)


def make(
    victim: Defended,
    trial: Trial,
    images: Examples,
    settings: EvaluationSettings = EvaluationSettings(),  # noqa: B008 - a frozen value
    bar: ProgressBar = no_bar,
) -> AdversarialSet:
    """The adversarial set of an attack on ``images``, in memory.

    Raises:
        ValueError: The attack returned an image outside its threat model.
    """
    parts: list[Images] = []
    score = evaluate(
        victim,
        trial.attack,
        images,
        trial.view,
        settings,
        bar=bar,
        keep=lambda part: parts.append(part.cpu()),
    )
    return AdversarialSet(victim, trial, images, torch.cat(parts), score, settings)


def read(path: Path) -> Images:
    """The adversarial images of a stored set: float32 of shape (n, c, h, w).

    Raises:
        ValueError: The file is truncated or is not an adversarial set.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return torch.from_numpy(arrays["x_adv"])
        with safe_open(path, "pt") as file:
            x_adv: Images = file.get_tensor("x_adv")
            return x_adv
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path} is not an adversarial set: {error}") from error


def write_png(path: Path, image: torch.Tensor) -> None:
    """Write one image in [0, 1] of shape (1 or 3, h, w), rounded to the nearest of 256 levels."""
    levels = (image.detach().cpu() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)
    content = io.BytesIO()
    picture.save(content, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())


def read_png(path: Path, channels: int) -> torch.Tensor:
    """One stored image as floats in [0, 1], of shape (channels, h, w)."""
    return stack([read_picture(path, channels)], 1)[0].float() / 255


def _to_bytes(tensors: dict[str, torch.Tensor], about: dict[str, Any], form: Format) -> bytes:
    if form == "npz":
        content = io.BytesIO()
        arrays: dict[str, Any] = {k: v.numpy() for k, v in tensors.items()}
        np.savez_compressed(content, **arrays)
        return content.getvalue()
    return to_safetensors(
        {k: v.contiguous() for k, v in tensors.items()}, {"about": json.dumps(about)}
    )


def _summary(scored: FormScore) -> dict[str, float | int | None]:
    """The entry of one form in ``set.json``."""
    score = scored.score
    return {
        "robust_acc": score.robust_acc,
        "broken": 1 - score.robust_acc / score.acc if score.acc else None,
        "linf": float(score.linf.max()),
        "l2": float(score.l2.max()),
        "outside": scored.outside,
    }
