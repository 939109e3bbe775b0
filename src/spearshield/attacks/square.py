"""Square Attack: random search with coloured squares, by the logits alone.

Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a query-efficient black-box adversarial
attack via random search", 2020. https://arxiv.org/abs/1912.00049
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spearshield.adversary import Attack, until_misclassified
from spearshield.losses.margin import margin_loss
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import ThreatModel
from spearshield.types import Classifier, Images, Labels, Mask, PerImage

Tensors: TypeAlias = tuple[Tensor, ...]

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Numbers of queries, out of 10,000, after which the share of pixels in a window halves."""
BLOCK = 64
"""Maximum number of queries whose randomness is drawn at once, because drawing is slow."""


@dataclass(frozen=True)
class Square(Attack):
    """Random search: each candidate repaints a random square window of the current image.

    A candidate replaces the current image if its margin loss is higher (algorithm 1). An image
    stops once it is misclassified; one that is misclassified from the start is returned unchanged.
    The model is never differentiated.

    Args:
        queries: Maximum number of queries for each image in each run; one more query tests the
            clean image.
        p_init: Share of the pixels in the first window, in (0, 1]. It halves nine times, on the
            schedule of the authors' code, scaled to ``queries``.
        restarts: Maximum number of runs for each image. An image that one run has broken is not
            attacked again.

    Raises:
        ValueError: ``queries`` or ``restarts`` is not positive, or ``p_init`` is not in (0, 1].
    """

    gradient_free: ClassVar[bool] = True
    random_search: ClassVar[bool] = True

    queries: int = 5000
    p_init: float = 0.8
    restarts: int = 1

    def __post_init__(self) -> None:
        require(self, "queries", "restarts", at_least=1)
        require(self, "p_init", above=0, at_most=1)

    @torch.no_grad()
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        x_adv = x.clone()
        for restart, left in until_misclassified(range(self.restarts), model, x_adv, y):
            own = rng[left].fold(restart)
            start = self._windows.start(x[left], own.fold(0))
            x_adv[left] = self.search(model, x[left], y[left], own, start)
        return x_adv

    @property
    def _windows(self) -> Windows:
        return LinfWindows(self.threat) if self.threat.p == math.inf else LpWindows(self.threat)

    @torch.no_grad()
    def search(self, model: Classifier, x: Images, y: Labels, rng: Rng, start: Images) -> Images:
        """The final image of each random search that begins at ``start``."""
        windows = self._windows
        found, left = torch.empty_like(x), torch.arange(len(x), device=x.device)
        x_now = start
        loss, wrong = _query(model, x_now, y)
        for number, (side, count) in enumerate(self._blocks(windows, *x.shape[2:])):
            shared = windows.shared(x, side)
            draws = windows.draw(x, side, count, rng.fold(number + 1))
            for query in range(count):
                if wrong.any():
                    found[left[wrong]] = x_now[wrong]
                    keep = (~wrong).nonzero().squeeze(1)
                    if len(keep) == 0:
                        return found
                    left, x, y, x_now, loss = (t[keep] for t in (left, x, y, x_now, loss))
                    rng, draws = rng[keep], tuple(d[keep] for d in draws)
                x_new = windows.propose(x, x_now, shared, tuple(d[:, query] for d in draws))
                loss_new, wrong = _query(model, x_new, y)
                better = (loss_new > loss) | wrong
                # lerp with 0 and 1: on a CPU several times as fast as where.
                x_now = torch.lerp(x_now, x_new, better.to(x)[:, None, None, None])
                loss = torch.where(better, loss_new, loss)
        found[left] = x_now
        return found

    def _blocks(self, windows: Windows, h: int, w: int) -> Iterator[tuple[int, int]]:
        """Side of the window and number of queries, for each block of queries after the first."""
        sides = (windows.side(self._share(query), h, w) for query in range(self.queries - 1))
        for side, group in itertools.groupby(sides):
            count = len(list(group))
            for first in range(0, count, BLOCK):
                yield side, min(BLOCK, count - first)

    def _share(self, query: int) -> float:
        """Share of the pixels that a window covers."""
        passed = sum(10000 * query // self.queries > halving for halving in HALVINGS)
        return self.p_init * 0.5**passed


def _query(model: Classifier, x: Images, y: Labels) -> tuple[PerImage, Mask]:
    """The margin loss of each image, and whether it is misclassified."""
    logits = model(x)
    return margin_loss(logits, y), logits.argmax(1) != y


@dataclass(frozen=True)
class Windows(abc.ABC):
    """The start of the search and its candidates, which depend on the norm."""

    threat: ThreatModel

    @abc.abstractmethod
    def start(self, x: Images, rng: Rng) -> Images:
        """The first query of each image."""

    @abc.abstractmethod
    def side(self, share: float, h: int, w: int) -> int:
        """Side of a square window that covers about ``share`` of an image."""

    @abc.abstractmethod
    def draw(self, x: Images, side: int, count: int, rng: Rng) -> Tensors:
        """The random choices of ``count`` queries: tensors indexed by image, then by query."""

    @abc.abstractmethod
    def shared(self, x: Images, side: int) -> Tensors:
        """Tensors that do not depend on the query, only on the side of the window."""

    @abc.abstractmethod
    def propose(self, x: Images, x_now: Images, shared: Tensors, draw: Tensors) -> Images:
        """The next candidate of each image, from the random choices of one query."""


@dataclass(frozen=True)
class LinfWindows(Windows):
    """Linf (algorithm 2): every channel of a window changes by ``eps``, up or down."""

    def start(self, x: Images, rng: Rng) -> Images:
        """Images with vertical stripes of ``eps`` or ``-eps``."""
        _, c, _, w = x.shape
        return self.threat.project(x + self.threat.eps * _signs(rng, (c, 1, w), x), x)

    def side(self, share: float, h: int, w: int) -> int:
        return min(max(round(math.sqrt(share * h * w)), 1), h, w)

    def draw(self, x: Images, side: int, count: int, rng: Rng) -> Tensors:
        _, c, h, w = x.shape
        rows = _covered(rng.fold(0).integers((count,), h - side + 1), side, h).to(x)
        columns = _covered(rng.fold(1).integers((count,), w - side + 1), side, w).to(x)
        steps = self.threat.eps * _signs(rng.fold(2), (count, c, 1, 1), x)
        return rows[:, :, None, :, None], columns[:, :, None, None, :], steps

    def shared(self, x: Images, side: int) -> Tensors:
        return ()

    def propose(self, x: Images, x_now: Images, shared: Tensors, draw: Tensors) -> Images:
        rows, columns, steps = draw
        return torch.lerp(x_now, (x + steps).clamp(0, 1), rows * columns)


@dataclass(frozen=True)
class LpWindows(Windows):
    """L2 (algorithm 3): a window receives the perturbation of another, in the shape of two bumps.

    The norm stays ``eps``: the window also receives the part of ``eps`` that clamping to [0, 1] has
    removed. The paper defines the attack for ``p = 2``; for other finite ``p`` the p-th power
    replaces the square.
    """

    def start(self, x: Images, rng: Rng) -> Images:
        """Images with tiles of bumps, five along the shorter side."""
        n, c, h, w = x.shape
        side = max(min(h, w) // 5, 1)
        tiles = (h // side, w // side)
        signs = _signs(rng.fold(0), (c, *tiles, 1, 1), x)
        turned = rng.fold(1).integers((1, *tiles), 2)
        delta = signs * self._bumps(x, side).view(2, side, side)[turned]
        delta = delta.transpose(3, 4).reshape(n, c, tiles[0] * side, tiles[1] * side)
        top, left = (h - tiles[0] * side) // 2, (w - tiles[1] * side) // 2
        whole = torch.zeros_like(x)
        whole[:, :, top : top + delta.shape[2], left : left + delta.shape[3]] = delta
        return self.threat.project(x + self.threat.eps * self.threat.normalize(whole), x)

    def side(self, share: float, h: int, w: int) -> int:
        return min(max(round(math.sqrt(share * h * w)), 3) // 2 * 2 + 1, h, w)

    def draw(self, x: Images, side: int, count: int, rng: Rng) -> Tensors:
        _, c, h, w = x.shape
        rows = rng.fold(0).integers((count, 2, 1, 1), h - side + 1)
        columns = rng.fold(1).integers((count, 2, 1, 1), w - side + 1)
        turned = rng.fold(2).integers((count,), 2)
        return rows * w + columns, turned, _signs(rng.fold(3), (count, c, 1), x)

    def shared(self, x: Images, side: int) -> Tensors:
        steps = torch.arange(side, device=x.device)
        places = (steps[:, None] * x.shape[3] + steps).flatten()
        return places, self._bumps(x, side)[:, None]

    def propose(self, x: Images, x_now: Images, shared: Tensors, draw: Tensors) -> Images:
        (places, bumps), (corners, turned, signs) = shared, draw
        delta = (x_now - x).flatten(2)
        n, c, _ = delta.shape
        unused = (self.threat.eps**self.threat.p - self._power(delta, (1, 2))).clamp(min=0)
        target, source = (corners + places).expand(n, 2, c, -1).unbind(1)
        old = delta.gather(2, target)
        delta = delta.scatter(2, target, 0.0)
        budget = self._power(old, (2,)) + unused / c
        budget += self._power(delta.gather(2, source), (2,))
        new = self._unit(signs * bumps[turned] + self._unit(old))
        delta.scatter_(2, source, 0.0).scatter_(2, target, budget ** (1 / self.threat.p) * new)
        return self.threat.project(x + delta.view_as(x), x)

    def _power(self, delta: Tensor, dim: tuple[int, ...]) -> Tensor:
        """Sum of the p-th powers over ``dim``."""
        return (delta.abs() ** self.threat.p).sum(dim, keepdim=True)

    def _unit(self, delta: Float[Tensor, "n c d"]) -> Float[Tensor, "n c d"]:
        """The perturbation of each channel divided by its norm; zero stays zero."""
        norm: Tensor = torch.linalg.vector_norm(delta, self.threat.p, dim=2, keepdim=True)
        return delta / norm.clamp(min=1e-12)

    def _bumps(self, x: Images, side: int) -> Float[Tensor, "2 d"]:
        """A positive bump above a negative one, and the same transposed, each with norm 1."""
        pair = torch.cat([_bump(side // 2, side), -_bump(side - side // 2, side)])
        pair = pair / torch.linalg.vector_norm(pair, self.threat.p)
        return torch.stack([pair, pair.T]).flatten(1).to(x)


def _signs(rng: Rng, shape: tuple[int, ...], like: Tensor) -> Float[Tensor, " n *shape"]:
    """Random signs, 1 or -1, with the type of ``like``."""
    return (2 * rng.integers(shape, 2) - 1).to(like.dtype)


def _covered(first: Int[Tensor, "n q"], side: int, length: int) -> Bool[Tensor, "n q length"]:
    """True for the rows, or columns, inside a window that begins at ``first``."""
    place = torch.arange(length, device=first.device) - first[..., None]
    return (place >= 0) & (place < side)


def _bump(h: int, w: int) -> Float[Tensor, "h w"]:
    """Nested squares around the centre; the k-th from the inside adds a height of 1 / k^2."""
    reach = max(h, w) // 2 + 1
    rings: Tensor = (1 / torch.arange(1, reach + 1).square()).flip(0).cumsum(0).flip(0)
    distance = [(torch.arange(side) - side // 2).abs() for side in (h, w)]
    return rings[torch.maximum(distance[0][:, None], distance[1])]
