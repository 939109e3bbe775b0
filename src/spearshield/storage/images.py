"""PNG and JPEG to 8-bit pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from spearshield.dataset import Examples
from spearshield.storage.archives import corrupt_as_value_error, npz
from spearshield.types import Images

LARGEST = 16_000_000
"""Pixels that a picture may have."""

_LARGEST_FILE = 64 << 20

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")


def picture(content: bytes, channels: int) -> Image.Image:
    """The picture in a PNG or JPEG file, upright, with 1 (luma) or 3 channels (RGB).

    EXIF's rotation is applied, a palette resolved, and what is transparent laid on white.

    Raises:
        ValueError: It has more than ``LARGEST`` pixels, or more than 8 bits a channel.
        Exception: Pillow's many, for bytes that are truncated or corrupt; see
            :func:`spearshield.storage.archives.corrupt_as_value_error`.
    """
    image = _open(content)
    if image.format == "PNG":
        _open(content).verify()  # its checksums, which decoding skips
    if image.mode not in _MODES:
        raise ValueError(f"its pixels are of Pillow's mode {image.mode}; save it with 8 bits")
    ImageOps.exif_transpose(image, in_place=True)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def read(path: Path, channels: int) -> Image.Image:
    """The picture in a file; see :func:`picture`.

    JPEG has no checksum: a missing end is noticed, a changed byte in the middle may not be.

    Raises:
        ValueError: It is truncated, corrupt, too large or of another kind; names the file.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    with corrupt_as_value_error(path):
        return picture(content, channels)


def fit(image: Image.Image, size: tuple[int, int], margin: float = 1.0) -> Image.Image:
    """The middle of a picture, resized (bilinear) to cover the given size or more.

    Args:
        size: Height and width of the result.
        margin: The resized picture covers ``size`` times this; the rest is cut off.
    """
    height, width = size
    scale = margin * max(height / image.height, width / image.width)
    large = round(image.width * scale), round(image.height * scale)
    left, top = (large[0] - width) // 2, (large[1] - height) // 2
    across, down = image.width / large[0], image.height / large[1]
    right, bottom = (left + width) * across, (top + height) * down
    box = (left * across, top * down, min(right, image.width), min(bottom, image.height))
    # as resizing everything and cutting, but a thin picture would become huge in between
    return image.resize((width, height), Image.Resampling.BILINEAR, box)


def quantize_towards(x_adv: Images, x: Images) -> Images:
    """The images of 256 levels next to attacked ones, on the side of the clean ones, ``x``.

    Where ``x`` has whole levels itself, no perturbation is larger than it was, but for a thousandth
    of a level.

    Args:
        x_adv, x: Images in [0, 1], of one shape.
    """
    moved = 255 * (x_adv - x)
    moved = (moved + 1e-3 * moved.sign()).trunc()  # as many as it was meant to be, in floats
    return ((255 * x).round() + moved).clamp(0, 255) / 255


def stack(pictures: Iterable[Image.Image], n: int) -> UInt8[Tensor, "n c h w"]:
    """The pixels of ``n`` pictures.

    Raises:
        ValueError: A picture is not as large as the first.
    """
    pixels: NDArray[np.uint8] | None = None
    for i, image in enumerate(pictures):
        one = np.asarray(image).reshape(image.height, image.width, -1).transpose(2, 0, 1)
        if pixels is None:
            pixels = np.empty((n, *one.shape), np.uint8)
        if one.shape != pixels.shape[1:]:
            raise ValueError(f"picture {i} has shape {one.shape}, the first {pixels.shape[1:]}")
        pixels[i] = one
    if pixels is None:
        raise ValueError("there are no pictures")
    return torch.from_numpy(pixels)


def packed(path: Path, prefix: str, names: tuple[str, ...] | None = None) -> Examples:
    """The colour images of one split of an npz with JPEG files one behind another.

    Args:
        path: Holds ``<prefix>_bytes`` (uint8), ``<prefix>_offsets``, where each file begins and at
            last where the last one ends, and ``<prefix>_labels``.
        names: The classes' names; ``None``: they are in the file, as ``names``.

    Raises:
        ValueError: The file is truncated, corrupt or not what it should be; names the file.
    """
    keys = [f"{prefix}_bytes", f"{prefix}_offsets", f"{prefix}_labels"]
    arrays = npz(path, [*keys, "names"])
    with corrupt_as_value_error(path):
        content, offsets, labels = (arrays[key] for key in keys)
        if content.dtype != np.uint8 or labels.ndim != 1 or offsets.shape != (len(labels) + 1,):
            raise ValueError(
                f"{keys[0]} is {content.dtype}, {keys[1]} has shape {offsets.shape}, "
                f"{keys[2]} has shape {labels.shape}"
            )
        if offsets[0] != 0 or offsets[-1] != len(content):
            raise ValueError(f"{keys[1]} does not run from 0 to {len(content)}")
        pixels = stack(
            (picture(content[i:j].tobytes(), 3) for i, j in pairwise(offsets)), len(labels)
        )
        y = torch.from_numpy(labels.astype(np.int64))
        return Examples.of(pixels, y, names or tuple(map(str, arrays["names"])))


def _open(content: bytes) -> Image.Image:
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"it has {len(content)} bytes, more than {_LARGEST_FILE}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower
        image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    if image.width * image.height > LARGEST:
        raise ValueError(f"it has {image.width} x {image.height} pixels, more than {LARGEST}")
    return image
