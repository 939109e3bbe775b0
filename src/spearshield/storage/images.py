"""Pixels of PNG and JPEG files, and rounding to 8 bits."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from spearshield.dataset import Examples
from spearshield.spelling import got
from spearshield.storage.archives import UnsuitableError, corrupt_as_value_error, npz
from spearshield.types import Images

LARGEST = 16_000_000
"""Largest number of pixels of a picture."""

SUFFIXES = (".png", ".jpg", ".jpeg")
"""Endings of the files that are read; the content decides whether a file is PNG or JPEG."""

FORMATS = ("PNG", "JPEG")

UNREAD = (".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jp2", ".ppm", ".pgm")
"""Endings of pictures that are refused, so that none is left out in silence."""

_LARGEST_FILE = 64 << 20

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")
GREY = ("1", "L", "LA", "I", "I;16")
"""Modes of Pillow for grey pictures."""

_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""The first bytes of PNG and of JPEG files."""

_BIT_DEPTH = 24
"""Position of the bits per channel in a PNG file."""


def picture_files(folder: Path, deep: bool = False) -> list[Path]:
    """The PNG and JPEG files of a folder, in the order of their names, without hidden ones.

    Args:
        deep: Also the files of all folders in it.

    Raises:
        ValueError: It holds pictures in another format, or a link to a folder.
    """
    found = []
    for path in sorted(folder.rglob("*") if deep else folder.iterdir()):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.is_dir():
            if deep and path.is_symlink():
                raise ValueError(f"{path} is a link to a folder, which is not followed; copy it")
            continue
        if path.suffix.lower() in UNREAD:
            raise ValueError(f"{path} is not a PNG or JPEG file; convert it, or move it away")
        if path.suffix.lower() in SUFFIXES:
            found.append(path)
    return found


def picture(content: bytes, channels: int) -> Image.Image:
    """The picture in a PNG or JPEG file, upright, with 1 (luma) or 3 channels (RGB).

    EXIF's rotation is applied, palettes are resolved, and transparent pixels are put on white.

    Raises:
        UnsuitableError: It has more than ``LARGEST`` pixels, or more than 8 bits per channel.
        Exception: Various errors of Pillow for truncated or corrupt bytes; see
            :func:`spearshield.storage.archives.corrupt_as_value_error`.
    """
    image = _open(content)
    if image.format == "PNG":
        _open(content).verify()  # its checksums, which decoding skips
        if content[_BIT_DEPTH] > 8:  # Pillow keeps the upper 8 of 16 bits without notice
            raise UnsuitableError(_too_deep(image.mode))
        if content[_BIT_DEPTH] < 8 and image.mode in ("1", "L"):
            _scale_transparency(image, 2 ** content[_BIT_DEPTH] - 1)
    return flattened(image, channels)


def flattened(image: Image.Image, channels: int) -> Image.Image:
    """An image of Pillow, upright and without transparency, with 1 (luma) or 3 channels (RGB).

    Raises:
        UnsuitableError: It has more than 8 bits per channel.
    """
    if image.mode not in _MODES:
        raise UnsuitableError(_too_deep(image.mode))
    with _quiet():
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _too_deep(mode: str) -> str:
    return (
        f"it has more than 8 bits per channel, or an unknown mode ({mode}); save it as grey or RGB "
        "with 8 bits"
    )


def _scale_transparency(image: Image.Image, largest: int) -> None:
    """Scale the transparent grey level of a PNG to 8 bits, as Pillow scales its pixels only."""
    level = image.info.get("transparency")
    if isinstance(level, int):
        image.info["transparency"] = level * 255 // largest


def read(path: Path, channels: int) -> Image.Image:
    """The picture in a file; see :func:`picture`.

    JPEG has no checksum: a truncated file is noticed, but a changed byte may not be.

    Raises:
        ValueError: The file is truncated, corrupt, too large, not PNG or JPEG, or has more than 8
            bits per channel; names the file.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    with corrupt_as_value_error(path):
        return picture(content, channels)


def is_grey(path: Path) -> bool:
    """True if the header of the file declares a grey picture; the pixels are not read.

    A file that cannot be read counts as grey; :func:`read` then raises the error.
    """
    try:
        with _quiet(), Image.open(path, formats=FORMATS) as image:
            return image.mode in GREY
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return True


def fit(image: Image.Image, size: tuple[int, int], margin: float = 1.0) -> Image.Image:
    """The middle of a picture, resized (bilinear) to cover the given size or more.

    Args:
        size: Height and width of the result.
        margin: The resized picture covers ``size`` times this factor, before it is cropped.
    """
    height, width = size
    scale = margin * max(height / image.height, width / image.width)
    large = round(image.width * scale), round(image.height * scale)
    left, top = (large[0] - width) // 2, (large[1] - height) // 2
    across, down = image.width / large[0], image.height / large[1]
    right, bottom = (left + width) * across, (top + height) * down
    box = (left * across, top * down, min(right, image.width), min(bottom, image.height))
    # Equal to resizing and then cropping, without the huge intermediate result of a thin picture.
    return image.resize((width, height), Image.Resampling.BILINEAR, box)


def quantize_towards(x_adv: Images, x: Images) -> Images:
    """Attacked images rounded to 256 levels, towards the clean images ``x``.

    If ``x`` has whole levels, no perturbation grows by more than a thousandth of a level.

    Args:
        x_adv, x: Images in [0, 1], of the same shape (n, c, h, w).
    """
    moved = 255 * (x_adv - x)
    moved = (moved + 1e-3 * moved.sign()).trunc()  # whole levels, despite rounding errors
    return ((255 * x).round() + moved).clamp(0, 255) / 255


def resized(pixels: UInt8[Tensor, "n c h w"], size: tuple[int, int]) -> UInt8[Tensor, "n c h2 w2"]:
    """Images with 1 or 3 channels resized to a height and a width; see :func:`fit`."""
    if pixels.shape[2:] == size:
        return pixels
    pictures = (Image.fromarray(one) for one in pixels.permute(0, 2, 3, 1).squeeze(3).numpy())
    return stack((fit(image, size) for image in pictures), len(pixels))


def check_size(size: tuple[int, int] | None) -> None:
    """Raise unless ``size`` is ``None`` or a height and a width of at most ``LARGEST`` pixels.

    Raises:
        ValueError: Names the size.
    """
    if size is None:
        return
    whole = isinstance(size, (tuple, list)) and all(isinstance(side, Integral) for side in size)
    if not whole or len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be a height and a width in pixels, got {got(size)}")
    if size[0] * size[1] > LARGEST:
        raise ValueError(f"size must have at most {LARGEST} pixels, got {size[0]} x {size[1]}")


def stack(pictures: Iterable[Image.Image], n: int) -> UInt8[Tensor, "n c h w"]:
    """The pixels of ``n`` pictures.

    Raises:
        UnsuitableError: There is no picture, or two pictures differ in size.
    """
    pixels: NDArray[np.uint8] | None = None
    for i, image in enumerate(pictures):
        one = np.asarray(image).reshape(image.height, image.width, -1).transpose(2, 0, 1)
        if pixels is None:
            try:
                pixels = np.empty((n, *one.shape), np.uint8)
            except (MemoryError, ValueError) as error:
                raise UnsuitableError(
                    f"{n} images of shape {one.shape} do not fit into memory; choose a smaller size"
                ) from error
        if one.shape != pixels.shape[1:]:
            raise UnsuitableError(
                f"picture {i} has shape {one.shape}, the first {pixels.shape[1:]}; resize them to "
                "one size"
            )
        pixels[i] = one
    if pixels is None:
        raise UnsuitableError("there are no pictures")
    return torch.from_numpy(pixels)


def zipped_pictures(
    members: zipfile.ZipFile, names: Iterable[str], largest: int
) -> Iterator[Image.Image]:
    """The colour pictures in files of a zip archive.

    Raises:
        ValueError: A file is truncated, corrupt or unsuitable, or unpacks to more than ``largest``
            bytes; names the file.
    """
    for name in names:
        if members.getinfo(name).file_size > largest:
            raise UnsuitableError(f"{name} unpacks to more than {largest} bytes")
        with corrupt_as_value_error(name):
            image = picture(members.read(name), 3)
        yield image


def packed(path: Path, prefix: str, names: tuple[str, ...] | None = None) -> Examples:
    """The colour images of one split of an npz that holds concatenated JPEG files.

    Args:
        path: An npz with ``<prefix>_bytes`` (uint8); ``<prefix>_offsets``, the start of each file
            and the end of the last one; and ``<prefix>_labels``.
        names: The names of the classes. ``None``: they are in the file, as ``names``.

    Raises:
        ValueError: The file is truncated or corrupt, or its arrays do not fit; names the file.
    """
    keys = [f"{prefix}_bytes", f"{prefix}_offsets", f"{prefix}_labels"]
    arrays = npz(path, [*keys, "names"])
    with corrupt_as_value_error(path):
        if missing := [key for key in keys if key not in arrays]:
            raise UnsuitableError(f"it has no array {', '.join(missing)}")
        content, offsets, labels = (arrays[key] for key in keys)
        if content.dtype != np.uint8 or labels.ndim != 1 or offsets.shape != (len(labels) + 1,):
            raise UnsuitableError(
                f"{keys[0]} is {content.dtype}, {keys[1]} has shape {offsets.shape}, "
                f"{keys[2]} has shape {labels.shape}"
            )
        if offsets[0] != 0 or offsets[-1] != len(content):
            raise UnsuitableError(f"{keys[1]} does not run from 0 to {len(content)}")
        pixels = stack(
            (picture(content[i:j].tobytes(), 3) for i, j in pairwise(offsets)), len(labels)
        )
        y = torch.from_numpy(labels.astype(np.int64))
        return Examples.of(pixels, y, names or tuple(map(str, arrays["names"])))


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignores Pillow's warnings: of large pictures, as LARGEST is lower; of EXIF that is broken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open(content: bytes) -> Image.Image:
    if len(content) > _LARGEST_FILE:
        raise UnsuitableError(f"it has {len(content)} bytes, more than {_LARGEST_FILE}")
    with _quiet():
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise UnsuitableError(f"it has more than {LARGEST} pixels") from error
        except UnidentifiedImageError as error:  # Pillow's message names the BytesIO
            if content and any(content.startswith(start[: len(content)]) for start in _STARTS):
                raise ValueError("it ends in its header") from error
            kind = "not a PNG or JPEG file" if content else "empty"
            raise UnsuitableError(f"it is {kind}") from error
    if image.width * image.height > LARGEST:
        raise UnsuitableError(f"it has {image.width} x {image.height} pixels, more than {LARGEST}")
    return image
