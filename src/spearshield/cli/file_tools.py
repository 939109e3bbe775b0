"""Images in files through a network: a folder or an npz in, the same out, whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spearshield.arrays import as_tensor
from spearshield.defended import Purifiers
from spearshield.judging.adversarial_set import write_png
from spearshield.pixels import (
    channels_first,
    check_images,
    check_levels,
    eight_bit,
    named,
)
from spearshield.storage import archives
from spearshield.storage.atomic import new_folder, refuse_existing, write_atomically
from spearshield.storage.images import (
    SUFFIXES,
    fit,
    picture_files,
    quantize_towards,
    read,
    stack,
)
from spearshield.training.learned_attack import AttackAsModule, LearnedAttack
from spearshield.types import Images, Mask, Shape

BATCH = 250
IMAGES = ("x_adv", "x", "images", "x_test")
ARRAYS = (*IMAGES, "y", "labels", "y_test", "ids", "names")


def purify(
    purifier: nn.Module,
    source: Path,
    target: Path,
    shape: Shape,
    device: str,
    resize: bool = False,
) -> tuple[int, int]:
    """Purify every image of ``source`` into ``target``; returns how many, and how many rejected.

    A folder is read with its sub-folders, and written as PNG files under the same names; rejected
    images are listed in ``rejected.txt`` instead. In an npz file the array of images (``x_adv``,
    ``x``, ``images`` or ``x_test``) keeps its type and layout; labels, ids and names are copied,
    and for a purifier that detects, ``rejected`` marks the rejected images.

    Args:
        shape: Channels, height and width that the purifier was trained on.
        resize: Resize the pictures of a folder until they cover that height and width, and crop
            them around the middle.

    Raises:
        FileNotFoundError: There is no ``source``.
        ValueError: It is empty or corrupt, its images have another shape or type, two of its files
            would get the same name, or ``target`` exists or is inside ``source``.
    """
    return _Pass(Purifiers(purifier), "purifier", shape, device, resize)(source, target)


def perturb(
    attack: LearnedAttack,
    source: Path,
    target: Path,
    shape: Shape,
    device: str,
    resize: bool = False,
) -> int:
    """Perturb every image of ``source`` into ``target``, as :func:`purify` does; returns how many.

    A pixel is rounded towards its original, so that the file is inside the budget too.
    """
    count, _ = _Pass(AttackAsModule(attack).eval(), "attack", shape, device, resize)(source, target)
    return count


@dataclass(frozen=True)
class _Pass:
    """One network over all images of a source.

    Args:
        network_name: Name of the network in messages.
    """

    network: nn.Module
    network_name: str
    shape: Shape
    device: str
    resize: bool

    def __call__(self, source: Path, target: Path) -> tuple[int, int]:
        if not source.exists():
            raise FileNotFoundError(f"there is no {source}")
        if source.suffix.lower() in SUFFIXES and source.is_file():
            raise ValueError(f"{source} is one picture; give a folder of pictures, or an npz file")
        refuse_existing(target)
        if source.resolve() in target.resolve().parents:
            raise ValueError(f"{target} is inside {source}; name a folder outside of it")
        if (target.suffix.lower() == ".npz") == source.is_dir():
            kind = "a folder" if source.is_dir() else "an npz file"
            raise ValueError(f"{source} is {kind}, and so must be the output, got {target}")
        return self.folder(source, target) if source.is_dir() else self.npz(source, target)

    def folder(self, source: Path, target: Path) -> tuple[int, int]:
        found = picture_files(source, deep=True)
        names = _png_names(found, source)
        refused: list[str] = []
        with new_folder(target) as made:
            for start in range(0, len(found), BATCH):
                part = found[start : start + BATCH]
                x = self.pixels(part).float() / 255
                for file, answer, no in zip(part, *self.answers(x, whole=True), strict=True):
                    if no:
                        refused.append(f"{file.relative_to(source)}\n")
                    else:
                        write_png(made / names[file], answer)
            if refused:
                write_atomically(made / "rejected.txt", "".join(refused).encode())
        return len(found), len(refused)

    def pixels(self, files: list[Path]) -> torch.Tensor:
        """The pixels of the files, which must have the shape that the network was trained on."""
        channels, height, width = self.shape

        def pictures() -> Iterator[Any]:
            for file in files:
                picture = read(file, channels)
                if self.resize:
                    picture = fit(picture, (height, width))
                if picture.size != (width, height):
                    raise ValueError(
                        f"{file} has {picture.width} x {picture.height} pixels; "
                        f"this {self.network_name} was trained on {width} x {height}: --size "
                        f"{height}x{width} resizes and crops"
                    )
                yield picture

        return stack(pictures(), len(files))

    def npz(self, source: Path, target: Path) -> tuple[int, int]:
        arrays: dict[str, Any] = archives.npz(source, ARRAYS)
        name = next((n for n in IMAGES if n in arrays), None)
        if name is None:
            held = ", ".join(archives.npz_names(source)) or "none"
            raise ValueError(
                f"{source} has no array {', '.join(IMAGES[:-1])} or {IMAGES[-1]}; it has {held}: "
                "give one of these names to the array of images"
            )
        if self.resize:
            raise ValueError(f"{source}: --size resizes the pictures of a folder, not arrays")
        given = arrays[name]
        x = self.floats(given, f"{source}: {name}")
        answers, refused = self.answers(x, given.dtype == np.uint8)
        stored = self.in_type(given.dtype, answers.numpy(), x.numpy())
        last = given.ndim == 4 and given.shape[1:] != self.shape
        arrays[name] = (stored.transpose(0, 2, 3, 1) if last else stored).reshape(given.shape)
        if self.detects:
            arrays["rejected"] = refused.numpy()
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_atomically(target, content.getvalue())
        return len(given), int(refused.sum())

    def floats(self, given: NDArray[Any], label: str) -> Images:
        """An array of images as floats of shape (n, c, h, w).

        Raises:
            ValueError: It does not hold images of the right shape; begins with ``label``.
        """
        with named(label):
            images = as_tensor(given, "images")
            check_levels(eight_bit(images))
            x = channels_first(images, torch_order=images.shape[1:] == self.shape)
            if x.shape[1:] != self.shape:
                raise ValueError(
                    f"images have shape {given.shape}; this {self.network_name} was trained on "
                    f"{self.shape}"
                )
            return x.float() / (255 if given.dtype == np.uint8 else 1)

    def in_type(self, dtype: np.dtype[Any], answers: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """The answers as numbers of a type; those of an attack are rounded towards ``x``."""
        if dtype == np.uint8:
            levels: NDArray[Any] = np.rint(answers * 255).astype(np.uint8)
            return levels
        stored = answers.astype(dtype)
        if isinstance(self.network, AttackAsModule):
            further = np.abs(stored.astype(np.float64) - x) > np.abs(answers.astype(np.float64) - x)
            stored = np.where(further, np.nextafter(stored, x.astype(dtype)), stored)
        return stored.astype(dtype)  # where gives the byte order of this machine

    @torch.no_grad()
    def answers(self, x: Images, whole: bool) -> tuple[Images, Mask]:
        """The network's answers, and which images it rejects.

        Args:
            whole: Round the answers of an attack to whole 8-bit levels, towards ``x``.

        Raises:
            ValueError: An answer is not finite or not in [0, 1].
        """
        check_images(x)
        answers, refused = [], []
        for part in torch.split(x, BATCH):
            seen = part.to(self.device)
            answer = self.network(seen)
            check_images(answer)
            if whole and isinstance(self.network, AttackAsModule):
                answer = quantize_towards(answer, seen)
            answers.append(answer.cpu())
            if isinstance(self.network, Purifiers):
                refused.append((self.network.detection_score(seen) > 0).cpu())
            else:
                refused.append(torch.zeros(len(part), dtype=torch.bool))
        return torch.cat(answers), torch.cat(refused)

    @property
    def detects(self) -> bool:
        """True if the network is a purifier that rejects images."""
        return isinstance(self.network, Purifiers) and self.network.detect


def _png_names(found: list[Path], source: Path) -> dict[Path, Path]:
    """The path of each answer in the target folder.

    Raises:
        ValueError: There is no file, or two files would get one name.
    """
    if not found:
        raise ValueError(f"{source} holds no {', '.join(SUFFIXES)} files")
    names = {file: file.relative_to(source).with_suffix(".png") for file in found}
    taken: dict[Path, Path] = {}
    for file, name in names.items():
        if name in taken:
            raise ValueError(f"{taken[name]} and {file} would both become {name}; rename one")
        taken[name] = file
    return names
