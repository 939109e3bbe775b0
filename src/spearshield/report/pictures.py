"""A few images on their way through attack and defence, drawn with Pillow."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors import SafetensorError, safe_open

SIDE = 96
"""About as many pixels wide is a drawn image; larger ones are drawn as they are."""

GAP = 4

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Strip:
    """One line of a picture: the same stage of every image.

    Args:
        images: Of shape (k, c, h, w), in [0, 1].
        verdicts: Who predicted, and the class names it predicted, one an image.
    """

    name: str
    images: Pixels
    verdicts: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, eq=False)
class Picture:
    """What a file in ``pictures/`` holds. ``bare`` is the classifier alone, ``victim`` defended.

    Args:
        parameters: Of the attack, as far as they are known.
    """

    stem: str
    method: str
    attack: str
    view: str
    threat: str
    eps: float
    parameters: dict[str, Any]
    truth: tuple[str, ...]
    bare_clean: tuple[str, ...]
    bare_adv: tuple[str, ...]
    victim_clean: tuple[str, ...]
    victim_adv: tuple[str, ...]
    x: Pixels
    x_adv: Pixels
    x_hat: Pixels

    @property
    def factor(self) -> float:
        """How much the perturbation is amplified: its bound becomes the full range.

        The bound is ``eps`` in Linf; in L2 no single pixel has one, and it is the largest change
        that is shown.
        """
        largest = float(np.abs(self.x_adv - self.x).max())
        bound = self.eps if self.threat == "Linf" else largest
        return 0.5 / bound if bound else 1.0

    @property
    def strips(self) -> tuple[Strip, ...]:
        """Clean, adversarial, perturbation around mid-grey, purified."""
        delta = np.clip(0.5 + self.factor * (self.x_adv - self.x), 0, 1)
        return (
            Strip("clean", self.x, (("bare", self.bare_clean), ("defended", self.victim_clean))),
            Strip("adversarial", self.x_adv, (("bare", self.bare_adv),)),
            Strip(f"perturbation, times {self.factor:.3g}", delta),
            Strip("purified", self.x_hat, (("defended", self.victim_adv),)),
        )

    def sheet(self) -> bytes:
        """All strips, one below the other, as one PNG."""
        rows = [_enlarged(strip.images) for strip in self.strips]
        k, h, w = rows[0].shape[:3]
        canvas = np.full((4 * (h + GAP) - GAP, k * (w + GAP) - GAP, *rows[0].shape[3:]), 255, "u1")
        for i, row in enumerate(rows):
            for j, image in enumerate(row):
                canvas[i * (h + GAP) :, j * (w + GAP) :][:h, :w] = image
        return _png(canvas)


def pngs(strip: Strip) -> list[bytes]:
    """Each image of a strip as a PNG of its own."""
    return [_png(image) for image in _enlarged(strip.images)]


PLACE = ("method", "attack", "view", "threat")
NAMES = ("truth", "bare_clean", "bare_adv", "victim_clean", "victim_adv")
STAGES = ("x", "x_adv", "x_hat")


def read(path: Path) -> Picture:
    """The picture in a file.

    Raises:
        ValueError: It is truncated, or not a picture; names the file and what is wrong.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["picture"])
            stages = {name: file.get_tensor(name) for name in STAGES}
        about: dict[str, Any] = {name: str(header[name]) for name in PLACE}
        about |= {"eps": float(header["eps"]), "parameters": dict(header.get("parameters", {}))}
        about |= {name: tuple(map(str, header[name])) for name in NAMES}
        _check(about, stages)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is truncated or not a picture ({error}); delete it to report without it"
        ) from error
    return Picture(path.stem, **about, **stages)


def _check(about: dict[str, Any], stages: dict[str, Any]) -> None:
    shape = stages["x"].shape
    if len(shape) != 4 or shape[1] not in (1, 3) or 0 in shape:
        raise ValueError(f"x has shape {shape}, not (images, 1 or 3, height, width)")
    for name, stage in stages.items():
        if stage.shape != shape or stage.dtype != np.float32:
            raise ValueError(f"{name} is {stage.dtype} {stage.shape}, not float32 {shape}")
        if not (stage.min() >= 0 and stage.max() <= 1):
            raise ValueError(f"{name} has pixels outside [0, 1]")
    for name in NAMES:
        if len(about[name]) != shape[0]:
            raise ValueError(f"{name} has {len(about[name])} names for {shape[0]} images")
    if about["threat"] not in ("Linf", "L2") or not about["eps"] > 0:
        raise ValueError(f"the threat model is {about['threat']} {about['eps']}, not Linf or L2")


def _enlarged(images: Pixels) -> npt.NDArray[np.uint8]:
    """8-bit images, channels last where there are three, by nearest neighbour."""
    times = max(1, round(SIDE / max(images.shape[2:])))
    levels = (images * 255).round().astype(np.uint8).repeat(times, 2).repeat(times, 3)
    return levels[:, 0] if images.shape[1] == 1 else levels.transpose(0, 2, 3, 1)


def _png(levels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels)).save(file, "PNG")
    return file.getvalue()
