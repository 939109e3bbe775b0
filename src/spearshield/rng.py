"""Random numbers that are a function of the image, not of the state of a generator.

A draw is a pure function of (key, image id, position): image 17 gets the same random start in every
batch, order, number of workers and device. There is no state to save, and a resumed run draws the
same numbers as a run without interruption.

The mixing function is the finaliser of SplitMix64: Steele, Lea, Flood, "Fast Splittable
Pseudorandom Number Generators", 2014, https://doi.org/10.1145/2660193.2660195.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spearshield.types import Ids, Images

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class Rng:
    """Random draws for the images ``ids``. The same call always returns the same numbers.

    For independent draws use :meth:`fold`: ``rng.fold(0).normal(s)``, ``rng.fold(1).normal(s)``.

    Args:
        key: Seed of the stream.
        ids: An integer for each image; images with equal ids get equal draws.
    """

    key: int
    ids: Ids

    @staticmethod
    def of_batch(seed: int, n: int, device: torch.device | str = "cpu") -> Rng:
        """Randomness for ``n`` images that are identified by their position in the batch."""
        return Rng(seed, torch.arange(n, device=device))

    @staticmethod
    def of_content(seed: int, x: Images) -> Rng:
        """Randomness that is a hash of the pixels of each image, for random models.

        The same image gets the same draws in every batch. A change of a pixel by 2^-16 or more
        gives unrelated draws.
        """
        flat = (x.detach().flatten(1).double() * 65536).round().long()
        place = torch.arange(flat.shape[1], device=x.device) * _signed(_GOLDEN)
        return Rng(seed, _mix(flat + place).sum(1))

    def fold(self, value: int) -> Rng:
        """An independent stream for the same images, identified by an integer."""
        other = value + 1 if value >= 0 else value  # never 0, because key 0 would map to itself
        return Rng(_mix_int(self.key + _GOLDEN * other), self.ids)

    def __getitem__(self, index: Tensor | slice) -> Rng:
        """The randomness of some of the images."""
        return Rng(self.key, self.ids[index])

    def uniform(
        self, shape: torch.Size | tuple[int, ...], low: float = 0.0, high: float = 1.0
    ) -> Float[Tensor, " n *shape"]:
        """Uniform draws in [low, high) of shape ``(n, *shape)``."""
        unit = ((self._bits(shape) >> 40) & 0xFFFFFF).float() / 2**24
        return low + (high - low) * unit

    def normal(self, shape: torch.Size | tuple[int, ...]) -> Float[Tensor, " n *shape"]:
        """Standard normal draws of shape ``(n, *shape)``."""
        unit = (((self._bits(shape) >> 12) & ((1 << 52) - 1)).double() + 0.5) / 2**52
        normal: Tensor = torch.special.ndtri(unit)
        return normal.float()

    def integers(self, shape: torch.Size | tuple[int, ...], high: int) -> Int[Tensor, " n *shape"]:
        """Uniform integers in [0, high) of shape ``(n, *shape)``."""
        return ((self._bits(shape) >> 11) & ((1 << 53) - 1)) % high

    def _bits(self, shape: torch.Size | tuple[int, ...]) -> Tensor:
        count = 1
        for size in shape:
            count *= size
        image = _mix(_mix(self.ids * _signed(_GOLDEN)) + _signed(self.key))
        place = (torch.arange(count, device=self.ids.device) + 1) * _signed(_GOLDEN)
        return _mix(image[:, None] + place).reshape(len(self.ids), *shape)


@contextlib.contextmanager
def ambient(seed: int, step: int = 0) -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore them afterwards.

    For code that can only draw from the global generator, such as initial weights and dropout.
    Step 0, the default, is the stream of the initial weights and of the first step of a training.
    """
    with torch.random.fork_rng():
        torch.manual_seed(_mix_int(seed * _GOLDEN + step + 1))
        yield


def repeated(seed: int, replicate: int) -> int:
    """The seed of an independent repetition; repetition 0 has ``seed`` itself."""
    return _mix_int(seed + _GOLDEN * (replicate + 1)) >> 1 if replicate else seed


def permutation(n: int, seed: int, epoch: int) -> Int[Tensor, " n"]:
    """The order of ``n`` images in epoch ``epoch``: a permutation of 0 to n - 1."""
    generator = torch.Generator().manual_seed(_mix_int(seed * _GOLDEN + epoch + 1))
    return torch.randperm(n, generator=generator)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _signed(_MIX_1)
    z = (z ^ _shift(z, 27)) * _signed(_MIX_2)
    return z ^ _shift(z, 31)


def _shift(z: Tensor, by: int) -> Tensor:
    """Logical right shift of 64-bit integers; the operator ``>>`` of torch copies the sign bit."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _mix_int(z: int) -> int:
    z &= _MASK
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return z ^ (z >> 31)


def _signed(z: int) -> int:
    z &= _MASK
    return z - (1 << 64) if z >> 63 else z
