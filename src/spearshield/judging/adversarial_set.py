"""Adversarial sets on disk: floats that are exact, 8-bit PNGs that anything can open.

Both forms are read back and judged again, because a set is worth what its files are worth: rounding
to 8 bits, towards the clean image so that the budget is kept, can undo an attack.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from spearshield.dataset import Examples
from spearshield.judging.evaluation import EvaluationSettings, evaluate, outcome
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.progress import ProgressBar, no_bar
from spearshield.storage.atomic import write_atomically, write_json
from spearshield.storage.images import quantize_towards, stack
from spearshield.storage.images import read as read_picture
from spearshield.storage.serialization import dump
from spearshield.types import Images, Labels, Mask

Format = Literal["safetensors", "npz"]
LIST = "set.json"


@dataclass(frozen=True)
class Verdict:
    """An adversarial set, judged from its files.

    Args:
        form: "float32" or "8-bit PNG".
        outside: Images outside the threat model, by more than the tolerance of float rounding.
    """

    form: str
    score: Score
    outside: int


@dataclass(frozen=True, eq=False)
class AdversarialSet:
    """Adversarial images in memory, with what they were made from and what they do to the victim.

    Args:
        examples: The clean images and their labels.
        x_adv: The adversarial images: float32 in [0, 1], of shape (n, c, h, w).
        score: The victim's predictions on both.
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
        """True for each image that is misclassified after the attack, of shape (n,)."""
        return ~self.score.robust

    def save(self, folder: str | Path, form: Format = "safetensors") -> list[Verdict]:
        """Write the set to ``folder``, read it back, and evaluate the victim on the files.

        The folder gets ``adversarial.safetensors`` or ``.npz`` with x, x_adv (float32, n c h w, in
        [0, 1]), y and ids; ``png/ID-CLASS.png``; and ``set.json``, which says how the set was made
        and gives the accuracy on the files.

        Raises:
            ValueError: The folder holds an adversarial set already.
        """
        folder, trial, images = Path(folder), self.trial, self.examples
        if (folder / LIST).exists():
            raise ValueError(f"{folder} holds an adversarial set already; choose another folder")
        tensors = {"x": self.x, "x_adv": self.x_adv, "y": images.y, "ids": images.ids}
        about = {
            "trial": dump(trial),
            "seed": self.settings.seed,
            "names": list(images.names),
        }
        name = f"adversarial.{form}"
        write_atomically(folder / name, _to_bytes(tensors, about, form))
        files = [f"png/{i:06d}-{label}.png" for i, label in zip(images.ids, images.y, strict=True)]
        for file, image in zip(files, quantize_towards(self.x_adv, self.x), strict=True):
            write_png(folder / file, image)

        stored = read(folder / name)
        shown = torch.stack([read_png(folder / file, images.shape[0]) for file in files])
        verdicts = [self._judge("float32", stored), self._judge("8-bit PNG", shown)]
        worth = {
            v.form: {
                "robust_acc": v.score.robust_acc,
                "asr": v.score.asr,
                "linf": float(v.score.linf.max()),
                "l2": float(v.score.l2.max()),
                "outside": v.outside,
            }
            for v in verdicts
        }
        write_json(folder / LIST, {**about, "images": len(images), "worth": worth, "files": files})
        return verdicts

    def _judge(self, form: str, x_adv: Images) -> Verdict:
        """The victim's score on the images of one form of file."""
        settings, images = self.settings, self.examples
        scores: list[Score] = []
        outside = 0
        for start in range(0, len(images), settings.batch_size):
            part = images[start : start + settings.batch_size]
            x, y = part.images(settings.device), part.y.to(settings.device)
            seen = x_adv[start : start + settings.batch_size].to(settings.device)
            scores.append(outcome(self.victim, x, seen, y, part.ids, draws=settings.draws))
            outside += int((~self.trial.attack.threat.contains(seen, x)).sum())
        return Verdict(form, _joined(scores), outside)


def make(
    victim: Defended,
    trial: Trial,
    images: Examples,
    settings: EvaluationSettings = EvaluationSettings(),  # noqa: B008 - a frozen value
    bar: ProgressBar = no_bar,
) -> AdversarialSet:
    """Attack ``images`` and keep the adversarial images in memory.

    Raises:
        ValueError: The attack left its threat model.
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
    """The attacked images of a stored set.

    Raises:
        ValueError: The file is truncated or no adversarial set.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return torch.from_numpy(arrays["x_adv"])
        with safe_open(path, "pt") as file:
            x_adv: Images = file.get_tensor("x_adv")
            return x_adv
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path} is no adversarial set: {error}") from error


def write_png(path: Path, image: torch.Tensor) -> None:
    """Write one image in [0, 1], shaped (1 or 3, h, w), rounded to the nearest of 256 levels."""
    levels = (image.detach().cpu() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)
    content = io.BytesIO()
    picture.save(content, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())


def read_png(path: Path, channels: int) -> torch.Tensor:
    """One stored image as floats in [0, 1], shaped (channels, h, w)."""
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


def _joined(scores: Sequence[Score]) -> Score:
    total = scores[0]
    for score in scores[1:]:
        total += score
    return total
