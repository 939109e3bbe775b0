"""Image quilting: the image, pieced together from patches of clean training images.

Guo, Rana, Cisse, van der Maaten, "Countering Adversarial Images using Input Transformations", 2018.
https://arxiv.org/abs/1711.00117. The quilt is from Efros, Freeman, "Image Quilting for Texture
Synthesis and Transfer", 2001, https://doi.org/10.1145/383259.383296.

    P  database of patches of clean images

    for each place of the grid, from top left to bottom right:
        p     one of the nearest patches in P to the patch of x, at random
        x_hat at the place = p, joined to the patches above and to the left along the cut where
                             both differ least

Differences from the paper. The database is smaller. The choice of patches has no gradient; BPDA
with the identity attacks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad, unfold

from spearshield.method import Learner, Method, Outcome, Paper, RandomPurifier, Task
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Images, Labels

PLACES = 512
"""Patches that are compared with the database at a time."""


@dataclass(frozen=True)
class ImageQuilting(Method):
    """A quilt of clean patches. A step of the training adds patches to the database.

    Args:
        patch: Side of a patch, in pixels.
        overlap: Pixels that neighbouring patches share, along rows and columns.
        patches: Number of patches in the database.
        nearest: Number of nearest patches, one of which is chosen at random.

    Raises:
        ValueError: A number is out of range, or patches do not overlap by less than their side. At
            the start of training: a patch is larger than the images.
    """

    paper = Paper(
        "Countering Adversarial Images using Input Transformations",
        "Guo, Chuan and Rana, Mayank and Cisse, Moustapha and van der Maaten, Laurens",
        2018,
        "https://arxiv.org/abs/1711.00117",
    )

    patch: int = 5
    overlap: int = 2
    patches: int = 10_000
    nearest: int = 10

    def __post_init__(self) -> None:
        require(self, "patch", "overlap", "patches", "nearest", at_least=1)
        if self.overlap >= self.patch:
            raise ValueError(f"overlap must be below patch, got {self.overlap} and {self.patch}")
        if self.nearest > self.patches:
            raise ValueError(
                f"nearest must be at most patches, got {self.nearest} and {self.patches}"
            )

    def learner(self, task: Task) -> ImageQuiltingLearner:
        if self.patch > min(task.shape[1:]):
            raise ValueError(f"patch is {self.patch} and the images have shape {task.shape}")
        return ImageQuiltingLearner(self, task)


class ImageQuiltingLearner(Learner):
    """The first step fills the database with its patches; every further one replaces the oldest."""

    taken: Tensor

    def __init__(self, method: ImageQuilting, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        self.quilt = Quilt(method, task.shape[0])
        self.register_buffer("taken", torch.tensor(0))

    @property
    def least_steps(self) -> int:
        return 1

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        h, w = x.shape[2:]
        side, database = self.method.patch, self.quilt.database
        each = max(1, len(database) // (4 * len(x)))
        across = torch.arange(side, device=x.device)
        rows = rng.fold(0).integers((each,), h - side + 1)[:, :, None] + across
        columns = rng.fold(1).integers((each,), w - side + 1)[:, :, None] + across
        image = torch.arange(len(x), device=x.device)[:, None, None, None]
        pixels = x.permute(0, 2, 3, 1)[image, rows[..., None], columns[:, :, None]]
        found = pixels.permute(0, 1, 4, 2, 3).flatten(0, 1).flatten(1)
        if int(self.taken) == 0:
            database.copy_(found[torch.arange(len(database), device=x.device) % len(found)])
        places = (int(self.taken) + torch.arange(len(found), device=x.device)) % len(database)
        database[places] = found
        self.taken += len(found)
        return {"patches": float(min(int(self.taken), len(database)))}

    def outcome(self) -> Outcome:
        return Outcome(self.task.classifier, purifier=self.quilt.eval())


class Quilt(RandomPurifier):
    """Pieces images together from the patches of ``database``, of shape (patches, c * p * p)."""

    database: Tensor

    def __init__(self, method: ImageQuilting, channels: int) -> None:
        super().__init__()
        self.method = method
        self.register_buffer(
            "database", torch.zeros(method.patches, channels * method.patch * method.patch)
        )

    @torch.no_grad()
    def purify(self, x: Images, rng: Rng) -> Images:
        side, overlap = self.method.patch, self.method.overlap
        step, (n, c, h, w) = side - overlap, x.shape
        padded = pad(x, (0, -(w - side) % step, 0, -(h - side) % step), mode="replicate")
        rows, columns = ((size - side) // step + 1 for size in padded.shape[2:])
        wanted = unfold(padded, side, stride=step).transpose(1, 2)
        chosen = self.chosen(wanted, rng).view(n, rows, columns, c, side, side)
        x_hat = torch.zeros_like(padded)
        for i in range(rows):
            for j in range(columns):
                place = (..., slice(i * step, i * step + side), slice(j * step, j * step + side))
                old, new = x_hat[place], chosen[:, i, j]
                kept = torch.zeros(n, 1, side, side, dtype=torch.bool, device=x.device)
                error = (old - new).square().sum(1)
                if j > 0:
                    kept[:, 0, :, :overlap] |= before_cut(error[:, :, :overlap])
                if i > 0:
                    kept[:, 0, :overlap] |= before_cut(error[:, :overlap].mT).mT
                x_hat[place] = torch.where(kept, old, new)
        return x_hat[:, :, :h, :w]

    def chosen(
        self, wanted: Float[Tensor, "n places pixels"], rng: Rng
    ) -> Float[Tensor, "n places pixels"]:
        """A near patch of the database for each place."""
        pick = rng.integers((wanted.shape[1],), self.method.nearest).flatten()
        flat, database = wanted.flatten(0, 1), self.database.to(wanted.dtype)
        # |p - q|^2 without |p|^2, which is the same for all q.
        half, parts = database.square().sum(1) / 2, []
        for patches, which in zip(
            torch.split(flat, PLACES), torch.split(pick, PLACES), strict=True
        ):
            near = (half - patches @ database.T).topk(self.method.nearest, largest=False).indices
            parts.append(database[near.gather(1, which[:, None])[:, 0]])
        return torch.cat(parts).view_as(wanted)


def before_cut(error: Float[Tensor, "n length width"]) -> Bool[Tensor, "n length width"]:
    """True left of the connected cut from top to bottom along which ``error`` is least.

    Args:
        error: Squared difference of the two sides at each pixel of their overlap.
    """
    length, width = error.shape[1:]
    cost = [error[:, 0]]
    for row in range(1, length):
        around = pad(cost[-1], (1, 1), value=float("inf")).unfold(1, 3, 1)
        cost.append(error[:, row] + around.amin(2))
    at = cost[-1].argmin(1)
    cut = [at]
    for row in range(length - 2, -1, -1):
        around = pad(cost[row], (1, 1), value=float("inf"))
        three = torch.stack([around.gather(1, at[:, None] + k)[:, 0] for k in range(3)], 1)
        at = (at + three.argmin(1) - 1).clamp(0, width - 1)
        cut.append(at)
    positions = torch.stack(cut[::-1], 1)
    return torch.arange(width, device=error.device) < positions[:, :, None]
