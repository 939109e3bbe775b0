"""Images in files through a network: a folder or an npz in, the same out, whole or not at all."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spearshield.adversary import check_images
from spearshield.dataset import check_levels, eight_bit
from spearshield.datasets.image_folder import SUFFIXES
from spearshield.defended import Purifiers
from spearshield.judging.adversarial_set import write_png
from spearshield.storage import archives
from spearshield.storage.atomic import write_atomically
from spearshield.storage.images import quantize_towards, read, stack
from spearshield.training.learned_attack import AttackAsModule, LearnedAttack
from spearshield.types import Images, Mask, Shape

BATCH = 250
IMAGES = ("x_adv", "x", "images", "x_test")
ARRAYS = (*IMAGES, "y", "labels", "y_test", "ids", "names")


def purify(
    purifier: nn.Module, source: Path, target: Path, shape: Shape, device: str
) -> tuple[int, int]:
    """Purify every image of ``source`` into ``target``; returns how many, and how many rejected.

    A folder is read with its sub-folders, and written as PNG files under the same names; rejected
    images are listed in ``rejected.txt`` instead. In an npz file the array of images (``x_adv``,
    ``x``, ``images`` or ``x_test``) keeps its type and layout; labels, ids and names are copied,
    and for a purifier that detects, ``rejected`` marks the rejected images.

    Args:
        shape: Channels, height and width that the purifier was trained on.

    Raises:
        FileNotFoundError: There is no ``source``.
        ValueError: It is empty or corrupt, its images have another shape or type, two of its files
            would get the same name, or ``target`` exists.
    """
    return _Pass(Purifiers(purifier), "purifier", shape, device)(source, target)


def perturb(attack: LearnedAttack, source: Path, target: Path, shape: Shape, device: str) -> int:
    """Perturb every image of ``source`` into ``target``, as :func:`purify` does; returns how many.

    A pixel is rounded towards its original, so that the file is inside the budget too.
    """
    count, _ = _Pass(AttackAsModule(attack).eval(), "attack", shape, device)(source, target)
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

    def __call__(self, source: Path, target: Path) -> tuple[int, int]:
        if not source.exists():
            raise FileNotFoundError(f"there is no {source}")
        if target.exists():
            raise ValueError(f"{target} exists already; name a new one")
        return self.folder(source, target) if source.is_dir() else self.npz(source, target)

    def folder(self, source: Path, target: Path) -> tuple[int, int]:
        found = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        names = {file: file.relative_to(source).with_suffix(".png") for file in found}
        if not names:
            raise ValueError(f"{source} holds no {', '.join(SUFFIXES)} files")
        taken: dict[Path, Path] = {}
        for file, name in names.items():
            if name in taken:
                raise ValueError(f"{taken[name]} and {file} would both become {name}; rename one")
            taken[name] = file
        refused: list[str] = []
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as beside:
            made = Path(beside) / target.name
            made.mkdir()
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
            made.rename(target)
        return len(found), len(refused)

    def pixels(self, files: list[Path]) -> torch.Tensor:
        """The pixels of the files, which must have the shape that the network was trained on."""
        channels, height, width = self.shape

        def pictures() -> Iterator[Any]:
            for file in files:
                picture = read(file, channels)
                if picture.size != (width, height):
                    raise ValueError(
                        f"{file} has {picture.width} x {picture.height} pixels; "
                        f"this {self.network_name} was trained on {width} x {height}"
                    )
                yield picture

        return stack(pictures(), len(files))

    def npz(self, source: Path, target: Path) -> tuple[int, int]:
        arrays: dict[str, Any] = archives.npz(source, ARRAYS)
        name = next((n for n in IMAGES if n in arrays), None)
        if name is None:
            raise ValueError(f"{source} has no images: name the array {', '.join(IMAGES)}")
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
        channels, height, width = self.shape
        shape = given.shape[1:] if given.ndim != 3 else (1, *given.shape[1:])
        if shape not in (self.shape, (height, width, channels)):
            raise ValueError(
                f"{label} has shape {given.shape}; the {self.network_name} takes {self.shape}"
            )
        if len(given) == 0:
            raise ValueError(f"{label} holds no images")
        try:
            pixels = eight_bit(given)
            check_levels(pixels)
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from error
        x = pixels.float() / 255
        if given.dtype != np.uint8:
            x = torch.from_numpy(given.astype(np.float32))
        x = x[:, None] if given.ndim == 3 else x
        return x if x.shape[1:] == self.shape else x.permute(0, 3, 1, 2)

    def in_type(self, dtype: np.dtype[Any], answers: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """The answers as numbers of a type; those of an attack are rounded towards ``x``."""
        if dtype == np.uint8:
            levels: NDArray[Any] = np.rint(answers * 255).astype(np.uint8)
            return levels
        stored = answers.astype(dtype)
        if isinstance(self.network, AttackAsModule):
            further = np.abs(stored.astype(np.float64) - x) > np.abs(answers.astype(np.float64) - x)
            stored = np.where(further, np.nextafter(stored, x.astype(dtype)), stored)
        return stored

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
