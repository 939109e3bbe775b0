"""Adversarial sets on disk: exact floats, and 8-bit PNG files that any program can open.

Both forms are read back from disk and scored, because rounding to 8 bits can undo an attack. Pixels
are rounded towards the clean image, so that the perturbation stays within the budget.
"""

from __future__ import annotations

import io
import json
import operator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from spearshield.dataset import Examples
from spearshield.judging.evaluation import EvaluationSettings, evaluate, score_attacked
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.progress import ProgressBar, no_bar
from spearshield.storage.atomic import write_atomically, write_json
from spearshield.storage.images import quantize_towards, stack
from spearshield.storage.images import read as read_picture
from spearshield.storage.serialization import dump
from spearshield.threat import ThreatModel
from spearshield.types import Images

Format: TypeAlias = Literal["safetensors", "npz"]
INDEX = "set.json"


@dataclass(frozen=True)
class FormScore:
    """The score of one form of an adversarial set, computed from its files.

    Args:
        form: "float32" or "8-bit PNG".
        outside: Number of images outside the threat model, beyond a tolerance for rounding.
    """

    form: str
    score: Score
    outside: int


def write(
    folder: Path,
    victim: Defended,
    trial: Trial,
    images: Examples,
    *,
    form: Format = "safetensors",
    settings: EvaluationSettings = EvaluationSettings(),  # noqa: B008 - a frozen value
    bar: ProgressBar = no_bar,
) -> list[FormScore]:
    """Attack ``images``, write the adversarial set, and score both forms from disk.

    The folder gets ``adversarial.safetensors`` or ``adversarial.npz`` with x, x_adv (float32,
    (n, c, h, w), in [0, 1]), y and ids; ``png/ID-CLASS.png``; and ``set.json`` with the attack, the
    settings and both scores.

    Raises:
        ValueError: The folder already holds an adversarial set, or as in
            :func:`spearshield.judging.evaluation.evaluate`.
    """
    if (folder / INDEX).exists():
        raise ValueError(f"{folder} holds an adversarial set already; choose another --out")
    parts: list[Images] = []

    def keep(x_adv: Images) -> None:
        parts.append(x_adv.cpu())

    evaluate(victim, trial.attack, images, trial.view, settings, bar=bar, keep=keep)
    about = {"trial": dump(trial), "seed": settings.seed, "names": list(images.names)}
    floats = folder / f"adversarial.{form}"
    x_adv = torch.cat(parts)
    tensors = {"x": images.images(), "x_adv": x_adv, "y": images.y, "ids": images.ids}
    write_atomically(floats, _to_bytes(tensors, about, form))
    files = _write_pngs(folder, x_adv, images)
    stored = {
        "float32": read(floats),
        "8-bit PNG": torch.stack([read_png(folder / file, images.shape[0]) for file in files]),
    }
    scores = [
        _score(name, victim, trial.attack.threat, attacked, images, settings)
        for name, attacked in stored.items()
    ]
    worth = {each.form: _summary(each) for each in scores}
    write_json(folder / INDEX, {**about, "images": len(images), "worth": worth, "files": files})
    return scores


def read(path: Path) -> Images:
    """The attacked images of a stored set.

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


def _write_pngs(folder: Path, x_adv: Images, images: Examples) -> list[str]:
    """Write each attacked image to ``png/ID-CLASS.png``; returns the paths within ``folder``."""
    files = [f"png/{i:06d}-{label}.png" for i, label in zip(images.ids, images.y, strict=True)]
    for file, image in zip(files, quantize_towards(x_adv, images.images()), strict=True):
        write_png(folder / file, image)
    return files


def _to_bytes(tensors: dict[str, torch.Tensor], about: dict[str, Any], form: Format) -> bytes:
    if form == "npz":
        content = io.BytesIO()
        arrays: dict[str, Any] = {k: v.numpy() for k, v in tensors.items()}
        np.savez_compressed(content, **arrays)
        return content.getvalue()
    return to_safetensors(
        {k: v.contiguous() for k, v in tensors.items()}, {"about": json.dumps(about)}
    )


def _score(
    form: str,
    victim: Defended,
    threat: ThreatModel,
    x_adv: Images,
    images: Examples,
    settings: EvaluationSettings,
) -> FormScore:
    """The score of stored images, in batches."""
    scores: list[Score] = []
    outside = 0
    for start in range(0, len(images), settings.batch_size):
        part = images[start : start + settings.batch_size]
        x, y = part.images(settings.device), part.y.to(settings.device)
        attacked = x_adv[start : start + settings.batch_size].to(settings.device)
        scores.append(score_attacked(victim, x, attacked, y, part.ids, draws=settings.draws))
        outside += int((~threat.contains(attacked, x)).sum())
    return FormScore(form, reduce(operator.add, scores), outside)


def _summary(scored: FormScore) -> dict[str, float | int | None]:
    """The entry of a form in ``set.json``."""
    score = scored.score
    return {
        "robust_acc": score.robust_acc,
        "asr": score.asr,
        "linf": float(score.linf.max()),
        "l2": float(score.l2.max()),
        "outside": scored.outside,
    }
