"""Purify files: a folder of images or an npz in, the same out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from spearshield import archives
from spearshield.adversarial_set import write_png
from spearshield.atomic import write_atomically
from spearshield.attack import check_images
from spearshield.datasets.image_folder import SUFFIXES
from spearshield.method import Detects
from spearshield.pictures import read, stack
from spearshield.types import Images, Mask, Shape

BATCH = 250
ARRAYS = ("x_adv", "x", "images", "y", "labels", "ids", "names")


def purify(
    purifier: nn.Module, source: Path, target: Path, shape: Shape, device: str
) -> tuple[int, int]:
    """Purify every image of ``source`` into ``target``; how many there were, and were rejected.

    A folder is walked with its sub-folders; the images come out as PNG under the names they had,
    but for those that the purifier rejects, whose names ``rejected.txt`` lists. Of an npz, the
    array of images (``x_adv``, ``x`` or ``images``) keeps its type and layout; labels, ids and
    names go along, and of a purifier that detects, ``rejected`` says which images those are.

    Args:
        shape: Channels, height, width that the purifier was trained for.

    Raises:
        FileNotFoundError: ``source`` is not there.
        ValueError: It is empty or corrupt, its images are of another shape, or ``target`` exists.
    """
    if not source.exists():
        raise FileNotFoundError(f"there is no {source}")
    if target.exists():
        raise ValueError(f"{target} exists already; name a new one")
    if source.is_dir():
        return _folder(purifier, source, target, shape, device)
    return _npz(purifier, source, target, shape, device)


def _folder(
    purifier: nn.Module, source: Path, target: Path, shape: Shape, device: str
) -> tuple[int, int]:
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise ValueError(f"{source} holds no {', '.join(SUFFIXES)} files")
    refused: list[str] = []
    for start in range(0, len(files), BATCH):
        part = files[start : start + BATCH]
        for file in part:
            size = read(file, shape[0]).size
            if size != (shape[2], shape[1]):
                raise ValueError(
                    f"{file} has {size[0]} x {size[1]} pixels; this purifier was trained on "
                    f"{shape[2]} x {shape[1]}"
                )
        x = stack((read(file, shape[0]) for file in part), len(part)).float() / 255
        for file, x_hat, no in zip(part, *_batches(purifier, x, device), strict=True):
            name = file.relative_to(source)
            if no:
                refused.append(f"{name}\n")
            else:
                write_png(target / name.with_suffix(".png"), x_hat)
    if refused:
        write_atomically(target / "rejected.txt", "".join(refused).encode())
    return len(files), len(refused)


def _npz(
    purifier: nn.Module, source: Path, target: Path, shape: Shape, device: str
) -> tuple[int, int]:
    arrays: dict[str, Any] = archives.npz(source, ARRAYS)
    name = next((n for n in ARRAYS[:3] if n in arrays), None)
    if name is None:
        raise ValueError(f"{source} has no array {', '.join(ARRAYS[:2])} or {ARRAYS[2]}")
    images = arrays[name]
    last = images.ndim == 4 and images.shape[1:] == (*shape[1:], shape[0])
    x = torch.from_numpy(images[:, None] if images.ndim == 3 else images)
    x = x.permute(0, 3, 1, 2) if last else x
    if x.shape[1:] != shape:
        raise ValueError(f"{source}: {name} has shape {images.shape}; the purifier takes {shape}")
    eight_bit = images.dtype == np.uint8
    x_hat, refused = _batches(purifier, x.float() / 255 if eight_bit else x.float(), device)
    back = x_hat.permute(0, 2, 3, 1) if last else x_hat
    result = (back * 255).round() if eight_bit else back
    arrays[name] = result.reshape(images.shape).numpy().astype(images.dtype)
    if isinstance(purifier, Detects):
        arrays["rejected"] = refused.numpy()
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomically(target, content.getvalue())
    return len(images), int(refused.sum())


@torch.no_grad()
def _batches(purifier: nn.Module, x: Images, device: str) -> tuple[Images, Mask]:
    """The purified images, and which of them the purifier rejects."""
    check_images(x)
    purified, refused = [], []
    for part in torch.split(x, BATCH):
        seen = part.to(device)
        purified.append(purifier(seen).cpu())
        if isinstance(purifier, Detects):
            refused.append((purifier.suspicion(seen) > 0).cpu())
        else:
            refused.append(torch.zeros(len(part), dtype=torch.bool))
    return torch.cat(purified), torch.cat(refused)
