"""A picture of clean, attacked and purified images in the features of the classifier."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SIDE = 360
"""Width and height of the picture in pixels."""
MARGIN = 12
FINE = 3
"""The picture is drawn this many times larger, and then reduced."""

COLOURS = ("#444444", "#c0392b", "#2166ac")
"""Of clean, attacked and purified images."""

Points = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FeaturePlane:
    """Images in two directions of the penultimate features.

    Args:
        points: Clean, attacked and purified images, of shape (3, n, 2).
        distances: Distances of attacked and of purified images from the clean image, relative to
            the mean norm of the clean features, of shape (2, n).
    """

    points: Points
    distances: Points

    def __post_init__(self) -> None:
        images = self.points.shape[1] if self.points.ndim == 3 else 0
        if self.points.shape != (3, images, 2) or self.distances.shape != (2, images) or not images:
            raise ValueError(
                f"the features have shapes {self.points.shape} and {self.distances.shape}"
            )
        if not (np.isfinite(self.points).all() and np.isfinite(self.distances).all()):
            raise ValueError("the features are not finite")

    @property
    def caption(self) -> str:
        """The mean distances, and the marks of the picture."""
        attacked, purified = self.distances.mean(1)
        return (
            f"Penultimate features of {self.points.shape[1]} images in two principal directions: "
            f"clean (circles), adversarial (crosses), purified (triangles). Mean distance from the "
            f"clean image, in units of the features' norm: adversarial {attacked:.2f}, purified "
            f"{purified:.2f}."
        )

    @property
    def data(self) -> str:
        """The picture as a PNG in base64."""
        return base64.b64encode(self.png()).decode()

    def png(self) -> bytes:
        """The picture as a PNG."""
        canvas = Image.new("RGB", (FINE * SIDE, FINE * SIDE), "white")
        draw = ImageDraw.Draw(canvas)
        for marks, colour, shape in zip(self._pixels(), COLOURS, MARKS, strict=True):
            for x, y in marks:
                shape(draw, float(x), float(y), colour)
        file = io.BytesIO()
        canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(file, "PNG")
        return file.getvalue()

    def _pixels(self) -> Points:
        """The points in pixels; both directions have the same scale."""
        flat = self.points.reshape(-1, 2)
        low, high = flat.min(0), flat.max(0)
        extent = max(float((high - low).max()), 1e-12)
        room = FINE * (SIDE - 2 * MARGIN)
        centred = (self.points - (low + high) / 2) / extent * room
        pixels: Points = (centred * np.array([1, -1]) + FINE * SIDE / 2).astype(np.float32)
        return pixels


def _circle(draw: Any, x: float, y: float, colour: str) -> None:
    size = 3 * FINE
    draw.ellipse((x - size, y - size, x + size, y + size), outline=colour, width=FINE)


def _cross(draw: Any, x: float, y: float, colour: str) -> None:
    size = 3 * FINE
    draw.line((x - size, y - size, x + size, y + size), fill=colour, width=FINE)
    draw.line((x - size, y + size, x + size, y - size), fill=colour, width=FINE)


def _triangle(draw: Any, x: float, y: float, colour: str) -> None:
    size = 3.5 * FINE
    corners = ((x, y - size), (x + size, y + size), (x - size, y + size))
    draw.polygon(corners, outline=colour, width=FINE)


MARKS = (_circle, _cross, _triangle)
