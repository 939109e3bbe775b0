"""Pictures of a few images: clean, adversarial, the perturbation, and purified."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors import SafetensorError, safe_open

from spearshield.report import words
from spearshield.report.feature_plane import FeaturePlane
from spearshield.storage.reading import check_file, parse_json

SIDE = 96
"""The approximate width in pixels of a drawn image; larger images keep their size."""

LARGEST_FILE = 256 << 20
"""Largest size of a file of pictures, in bytes."""

MOST_IMAGES = 100

GAP = 4

REJECTED = "rejected"
"""The name in place of a class for a rejected image."""

Pixels = npt.NDArray[np.float32]


class Prediction(NamedTuple):
    """A predicted class; rejecting an attacked image is also right."""

    name: str
    right: bool


@dataclass(frozen=True, eq=False)
class Strip:
    """One row of a picture: the same stage of every image.

    Args:
        images: Shape (k, c, h, w), values in [0, 1].
        verdicts: Pairs of a classifier and its predictions, one per image.
    """

    name: str
    images: Pixels
    verdicts: tuple[tuple[str, tuple[Prediction, ...]], ...] = ()

    @property
    def data(self) -> list[str]:
        """Each image as a PNG in base64."""
        return [base64.b64encode(_png(image)).decode() for image in _enlarged(self.images)]


@dataclass(frozen=True, eq=False)
class Picture:
    """The content of a file in ``pictures/``.

    Args:
        stem: The name of the file without its suffix.
        parameters: Hyper-parameters of the attack, as far as they were stored.
        truth: The true class names, one per image.
        bare_clean, bare_adv: Predictions of the classifier without its purifier.
        victim_clean, victim_adv: Predictions of the defended classifier.
        x, x_adv, x_hat: Clean, adversarial and purified images.
        features: These and further images in the features of the classifier; only with a purifier.
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
    features: FeaturePlane | None = None

    @property
    def title(self) -> str:
        """Attack, view and threat model."""
        attack = words.attack(self.attack, self.parameters)
        return f"{attack}, {words.view(self.view)}, {words.threat(self.threat, self.eps)}"

    @property
    def purified(self) -> bool:
        """True if the defence has a purifier, which changes the images."""
        return not np.array_equal(self.x_hat, self.x_adv)

    @property
    def pixels(self) -> int:
        """Pixels of all stages, before they are enlarged."""
        k, _, h, w = self.x.shape
        return int(k * h * w) * (4 if self.purified else 3)

    @property
    def factor(self) -> float:
        """The amplification of the perturbation that maps its bound to the full range.

        The bound is ``eps`` in Linf. In L2 no bound holds for a single pixel, and the largest
        change that is shown takes its place.
        """
        largest = float(np.abs(self.x_adv - self.x).max())
        bound = self.eps if self.threat == "Linf" else largest
        return 0.5 / bound if bound else 1.0

    @property
    def strips(self) -> tuple[Strip, ...]:
        """Clean, adversarial, the perturbation around mid-grey and, with a purifier, purified."""
        delta = np.clip(0.5 + self.factor * (self.x_adv - self.x), 0, 1)
        clean = self._predicted(self.bare_clean), self._predicted(self.victim_clean)
        bare = self._predicted(self.bare_adv, REJECTED)
        victim = self._predicted(self.victim_adv, REJECTED)
        attacked = (("undefended", bare),) if self.purified else _verdicts(bare, victim)
        strips = (
            Strip("clean", self.x, _verdicts(*clean)),
            Strip("adversarial", self.x_adv, attacked),
            Strip(f"perturbation, times {self.factor:.3g}", delta),
        )
        if not self.purified:
            return strips
        return (*strips, Strip("purified", self.x_hat, (("defended", victim),)))

    def _predicted(self, names: tuple[str, ...], *right: str) -> tuple[Prediction, ...]:
        """Predictions that are right if they are the true class or one of ``right``."""
        pairs = zip(names, self.truth, strict=True)
        return tuple(Prediction(name, name in (truth, *right)) for name, truth in pairs)

    def sheet(self) -> bytes:
        """All strips, one below the other, as one PNG."""
        rows = [_enlarged(strip.images) for strip in self.strips]
        k, h, w = rows[0].shape[:3]
        height, width = len(rows) * (h + GAP) - GAP, k * (w + GAP) - GAP
        canvas = np.full((height, width, *rows[0].shape[3:]), 255, np.uint8)
        for i, row in enumerate(rows):
            for j, image in enumerate(row):
                canvas[i * (h + GAP) :, j * (w + GAP) :][:h, :w] = image
        return _png(canvas)


def _verdicts(
    bare: tuple[Prediction, ...], victim: tuple[Prediction, ...]
) -> tuple[tuple[str, tuple[Prediction, ...]], ...]:
    """The predictions without and with the defence; only once if they are the same."""
    if bare == victim:
        return (("predicted", bare),)
    return ("undefended", bare), ("defended", victim)


PLACE = ("method", "attack", "view", "threat")
NAMES = ("truth", "bare_clean", "bare_adv", "victim_clean", "victim_adv")
STAGES = ("x", "x_adv", "x_hat")
FEATURES = ("feature_plane", "feature_distances")


def read(path: Path) -> Picture:
    """The picture in a file.

    Raises:
        ValueError: The file is truncated or not a picture; names the file and the fault.
    """
    check_file(path, LARGEST_FILE)
    try:
        with safe_open(path, framework="numpy") as file:
            header = parse_json((file.metadata() or {})["picture"])
            stages = {name: file.get_tensor(name) for name in STAGES}
            stored = FEATURES if FEATURES[0] in file.keys() else ()  # noqa: SIM118 - not a dict
            both = [file.get_tensor(name) for name in stored]
        about: dict[str, Any] = {name: str(header[name]) for name in PLACE}
        about |= {"eps": float(header["eps"]), "parameters": dict(header.get("parameters", {}))}
        about |= {name: tuple(map(str, header[name])) for name in NAMES}
        _check(about, stages)
        features = FeaturePlane(*both) if both else None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is truncated or not a picture ({error}); delete it to do without"
        ) from error
    return Picture(path.stem, **about, **stages, features=features)


def _check(about: dict[str, Any], stages: dict[str, Any]) -> None:
    shape = stages["x"].shape
    if len(shape) != 4 or shape[1] not in (1, 3) or 0 in shape:
        raise ValueError(f"x has shape {shape}, not (images, 1 or 3, height, width)")
    if shape[0] > MOST_IMAGES:
        raise ValueError(f"it holds {shape[0]} images, more than {MOST_IMAGES}")
    for name, stage in stages.items():
        if stage.shape != shape or stage.dtype != np.float32:
            raise ValueError(f"{name} is {stage.dtype} {stage.shape}, not float32 {shape}")
        if not (stage.min() >= 0 and stage.max() <= 1):
            raise ValueError(f"{name} has pixels outside [0, 1]")
    for name in NAMES:
        if len(about[name]) != shape[0]:
            raise ValueError(f"{name} has {len(about[name])} names for {shape[0]} images")
    if not about["threat"] or not 0 < about["eps"] < float("inf"):
        raise ValueError(f"the threat model is {about['threat']!r} {about['eps']}, not a budget")


def _enlarged(images: Pixels) -> npt.NDArray[np.uint8]:
    """8-bit images enlarged by nearest neighbour, channels last if there are three."""
    times = max(1, round(SIDE / max(images.shape[2:])))
    levels = (images * 255).round().astype(np.uint8).repeat(times, 2).repeat(times, 3)
    return levels[:, 0] if images.shape[1] == 1 else levels.transpose(0, 2, 3, 1)


def _png(levels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels)).save(file, "PNG")
    return file.getvalue()
