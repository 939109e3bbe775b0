"""Images and labels in any form of numbers, as tensors: every door applies the rules of this file.

The type of images decides what their numbers mean: ``uint8`` runs from 0 to 255, floats run from 0
to 1. Where the layout could be read in two ways, images are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from spearshield.arrays import as_tensor
from spearshield.types import Images, Labels

CHANNELS = (1, 3)
"""Numbers of channels of an image: grey, or red, green and blue."""

MOST_CLASSES = 100_000
"""Labels are below this number."""

_PART = 1000


def as_images(x: Any) -> Images:
    """Images as a tensor of float32 or float64, on the device of ``x``.

    Numbers of 8 bits are divided by 255. float16 and bfloat16 become float32, which is exact.

    Args:
        x: A tensor, an array or nested lists, of shape (n, c, h, w).

    Raises:
        ValueError: They have another shape, or are neither floats nor uint8.
    """
    images = as_input(as_tensor(x, "images"))
    return images if images.dtype in (torch.float32, torch.float64) else images.float()


def as_input(x: Any) -> Images:
    """Images as a classifier is called with them, as floats: differentiable in a tensor of floats.

    Numbers of 8 bits are divided by 255. Floats keep their type and are not compared with [0, 1].

    Args:
        x: See :func:`as_images`.

    Raises:
        ValueError: See :func:`as_images`.
    """
    images = x if isinstance(x, Tensor) else as_tensor(x, "images")
    if images.ndim == 4 and 0 in images.shape[1:]:
        raise ValueError(f"images have shape {tuple(images.shape)}, which holds no pixel")
    if images.ndim != 4:
        raise ValueError(
            f"images are {_name(images.dtype)} of shape {tuple(images.shape)}; they must be floats "
            "in [0, 1], or uint8, of shape (n, c, h, w) (one image needs images[None])"
        )
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise ValueError(_other_type(_name(images.dtype)))
    return images


def as_pixels(x: Any) -> UInt8[Tensor, "n c h w"]:
    """Images with 1 or 3 channels as 8-bit pixels, on the CPU.

    Args:
        x: As for :func:`eight_bit`, of shape (n, c, h, w), (n, h, w, c) or (n, h, w).

    Raises:
        ValueError: Their shape, type or range is wrong, or their layout could be read in two ways.
    """
    images = as_tensor(x, "images").cpu()
    return eight_bit(channels_first(images, torch_order=isinstance(x, Tensor))).contiguous()


def channels_first(images: Tensor, torch_order: bool) -> Tensor:
    """Images of shape (n, c, h, w), from that shape, (n, h, w, c) or (n, h, w).

    Args:
        torch_order: Read images with two axes that can be the channels as (n, c, h, w).

    Raises:
        ValueError: No axis, or more than one, can be the channels; or the array is empty.
    """
    shape = tuple(images.shape)
    if 0 in shape:
        raise ValueError(f"images have shape {shape}, which holds no pixel")
    if images.ndim == 3:
        return images[:, None]
    first, last = (images.ndim == 4 and shape[axis] in CHANNELS for axis in (1, 3))
    if first and last and not torch_order and shape[1:] != (1, 1, 1):
        raise ValueError(
            f"images have shape {shape}, which could be (n, c, h, w) or (n, h, w, c); give "
            "torch.from_numpy(images), which is read as (n, c, h, w), or images of another size"
        )
    if not (first or last):
        raise ValueError(f"images have shape {shape}; {_shape_remedy(shape)}")
    return images if first else images.permute(0, 3, 1, 2)


def _shape_remedy(shape: tuple[int, ...]) -> str:
    wanted = "they must be (n, c, h, w), (n, h, w, c) or (n, h, w), with 1 or 3 channels"
    if len(shape) == 4 and 4 in (shape[1], shape[3]):
        part = "[:, :3]" if shape[1] == 4 else "[..., :3]"
        return f"{wanted}: leave out the fourth channel, as in images{part}"
    if len(shape) == 2:
        return f"{wanted}: flat images get their shape by reshape(-1, c, h, w)"
    return wanted


def eight_bit(x: Any) -> UInt8[Tensor, "..."]:
    """Images as 8-bit pixels of the same shape, on the same device.

    The type decides what the numbers mean: ``uint8`` runs from 0 to 255 and is kept; floats run
    from 0 to 1 and are rounded to 256 levels.

    Raises:
        ValueError: The images have another type, or floats are not finite or not in [0, 1].
    """
    images = as_tensor(x, "images")
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise ValueError(_other_type(_name(images.dtype)))
    if images.ndim < 4:
        return _levels(images)
    return torch.cat([_levels(part) for part in torch.split(images, _PART)])  # bounds the memory


def _levels(images: Tensor) -> UInt8[Tensor, "..."]:
    x = images.float() if images.itemsize < torch.float32.itemsize else images
    if not in_unit_range(x):
        raise ValueError(
            f"images run from {float(x.min()):g} to {float(x.max()):g}; floats must be finite "
            "and in [0, 1]: divide by 255, and undo the normalisation "
            "(as_classifier(model, mean=..., std=...) puts it into the classifier)"
        )
    return (x * 255).round().to(torch.uint8)


def check_levels(pixels: UInt8[Tensor, "..."]) -> None:
    """Raise if the brightest of all pixels is 1 of 255.

    Raises:
        ValueError: Explains what such numbers usually are.
    """
    if pixels.numel() and int(pixels.max()) == 1:
        raise ValueError(
            "the brightest pixel is 1 of 255, so all images are nearly black: give uint8 images "
            "from 0 to 255, or floats in [0, 1] that are divided by 255 once; multiply a mask of "
            "0 and 1 by 255"
        )


def check_images(x: Images) -> None:
    """Raise if a pixel is not finite or not in [0, 1].

    Raises:
        ValueError: Names the first such image, and its lowest and highest pixel.
    """
    if not in_unit_range(x):
        inside = ((x >= 0) & (x <= 1)).flatten(1).all(1)
        worst = int((~inside).nonzero()[0])
        low, high = float(x[worst].min()), float(x[worst].max())
        raise ValueError(
            f"image {worst} has pixels from {low:g} to {high:g}; images must be finite and in "
            "[0, 1] (divide 8-bit images by 255, and normalise inside the classifier)"
        )


def in_unit_range(x: Tensor) -> bool:
    """True if all pixels are in [0, 1]; False if one is NaN. One pass over the pixels."""
    if x.numel() == 0:
        return True
    lowest, highest = x.aminmax()
    return bool((lowest >= 0) & (highest <= 1))


def as_labels(y: Any) -> Labels:
    """Labels as a tensor of int64 and shape (n,), on the device of ``y``.

    Args:
        y: Class numbers from 0: integers of any type and of shape (n,) or (n, 1).

    Raises:
        ValueError: They are not such integers.
    """
    labels = as_tensor(y, "labels")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    fractional = labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
    if labels.ndim != 1 or fractional:
        raise ValueError(
            f"labels are {_name(labels.dtype)} of shape {tuple(labels.shape)}; they must be class "
            f"numbers from 0: integers of shape (n,){_label_remedy(labels)}"
        )
    if len(labels):
        values = labels.cpu().numpy()
        low, high = int(values.min()), int(values.max())
        if low < 0:
            raise ValueError(f"the smallest label is {low}; classes are numbered from 0")
        if high >= MOST_CLASSES:
            raise ValueError(f"the largest label is {high}; it must be below {MOST_CLASSES:,}")
    return labels.long()


def _label_remedy(labels: Tensor) -> str:
    if labels.ndim == 0:
        return "; give a list with one number for each image"
    if labels.ndim > 1:
        return "; argmax(1) converts one-hot rows"
    return "; .long() or .astype(int) converts whole numbers"


def check_lengths(images: int, labels: int) -> None:
    """Raise unless there are as many labels as images.

    Raises:
        ValueError: Names both numbers.
    """
    if images != labels:
        raise ValueError(
            f"there are {images} images and {labels} labels; give one label for each image (and "
            "one image a batch axis, by images[None])"
        )


@contextmanager
def named(source: object) -> Iterator[None]:
    """Begins the message of a ``ValueError`` inside the block with the name of a source."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _other_type(dtype: str) -> str:
    return (
        f"images are {dtype}; they must be uint8 from 0 to 255, or floats in [0, 1]: convert "
        "whole numbers from 0 to 255 to uint8, and divide others by their largest level"
    )
