"""Square Attack: random search with squares of colour, from the model's scores alone.

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

from spearshield.attack import Attack, fooled
from spearshield.losses.margin import margin_loss
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel
from spearshield.types import Classifier, Images, Labels, Mask, PerImage

Tensors: TypeAlias = tuple[Tensor, ...]

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10,000 queries, those after which the changed share of the image halves."""
STRETCH = 64
"""Queries that are drawn at once, at most: a draw costs many small operations."""


@dataclass(frozen=True)
class Square(Attack):
    """The best of a chain of images, each the last one with a random window painted anew.

    A candidate replaces the last image if its margin loss is higher. An image leaves as soon as
    the model errs on it; one that the model gets wrong as it is comes back unchanged. The model is
    never differentiated.

    Args:
        queries: Images shown to the model in each restart, at most, for each image; one more is
            the clean image.
        p_init: Share of the pixels in the first window. It halves nine times, on the schedule of
            the authors' code, stretched to ``queries``.
        restarts: Starts per image, at most; an image that has been broken is not started again.

    Raises:
        ValueError: ``queries`` or ``restarts`` is not positive, or ``p_init`` not in (0, 1].
    """

    gradient_free: ClassVar[bool] = True

    queries: int = 5000
    p_init: float = 0.8
    restarts: int = 1

    def __post_init__(self) -> None:
        if self.queries < 1 or self.restarts < 1:
            raise ValueError(
                f"queries and restarts must be at least 1, got {self.queries} and {self.restarts}"
            )
        if not 0 < self.p_init <= 1:
            raise ValueError(f"p_init must be a share, above 0 and at most 1, got {self.p_init}")

    @torch.no_grad()
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = x.clone()
        left = (~fooled(model, x, y)).nonzero().squeeze(1)
        for restart in range(self.restarts):
            if len(left) == 0:
                break
            start = self._moves.start(x[left], rng[left].fold(restart).fold(0))
            best[left] = self.search(model, x[left], y[left], rng[left].fold(restart), start)
            if restart + 1 < self.restarts:
                left = left[~fooled(model, best[left], y[left])]
        return best

    @property
    def _moves(self) -> Moves:
        return Squares(self.threat) if isinstance(self.threat, Linf) else L2Windows(self.threat)

    @torch.no_grad()
    def search(self, model: Classifier, x: Images, y: Labels, rng: Rng, start: Images) -> Images:
        """The last image of each chain that begins at ``start``, inside the threat model."""
        moves = self._moves
        found, left = torch.empty_like(x), torch.arange(len(x), device=x.device)
        x_now = start
        loss, wrong = _ask(model, x_now, y)
        for number, (side, count) in enumerate(self._stretches(moves, *x.shape[2:])):
            window, draws = moves.window(x, side), moves.draw(x, side, count, rng.fold(number + 1))
            for query in range(count):
                if wrong.any():
                    found[left[wrong]] = x_now[wrong]
                    keep = (~wrong).nonzero().squeeze(1)
                    if len(keep) == 0:
                        return found
                    left, x, y, x_now, loss = (t[keep] for t in (left, x, y, x_now, loss))
                    rng, draws = rng[keep], tuple(d[keep] for d in draws)
                x_new = moves.propose(x, x_now, window, tuple(d[:, query] for d in draws))
                new_loss, wrong = _ask(model, x_new, y)
                better = (new_loss > loss) | wrong
                # lerp with 0 and 1: on a CPU several times as fast as where.
                x_now = torch.lerp(x_now, x_new, better.to(x)[:, None, None, None])
                loss = torch.where(better, new_loss, loss)
        found[left] = x_now
        return found

    def _stretches(self, moves: Moves, h: int, w: int) -> Iterator[tuple[int, int]]:
        """Side of the window and number of queries, for each stretch of queries after the first."""
        sides = (moves.side(self._share(query), h, w) for query in range(self.queries - 1))
        for side, run in itertools.groupby(sides):
            count = len(list(run))
            for first in range(0, count, STRETCH):
                yield side, min(STRETCH, count - first)

    def _share(self, query: int) -> float:
        """Share of the pixels that a window covers."""
        passed = sum(10000 * query // self.queries > halving for halving in HALVINGS)
        return self.p_init * 0.5**passed


def _ask(model: Classifier, x: Images, y: Labels) -> tuple[PerImage, Mask]:
    """The margin loss of each image, and which images the model gets wrong."""
    logits = model(x)
    return margin_loss(logits, y), logits.argmax(1) != y


@dataclass(frozen=True)
class Moves(abc.ABC):
    """How the search starts and proposes, in one norm."""

    threat: ThreatModel

    @abc.abstractmethod
    def start(self, x: Images, rng: Rng) -> Images:
        """The first image shown to the model."""

    @abc.abstractmethod
    def side(self, share: float, h: int, w: int) -> int:
        """Side of a square window that covers about ``share`` of an image."""

    @abc.abstractmethod
    def draw(self, x: Images, side: int, count: int, rng: Rng) -> Tensors:
        """What chance decides about ``count`` queries: tensors by image, then by query."""

    @abc.abstractmethod
    def window(self, x: Images, side: int) -> Tensors:
        """What windows of this side have in common, whatever the image."""

    @abc.abstractmethod
    def propose(self, x: Images, x_now: Images, window: Tensors, draw: Tensors) -> Images:
        """The next candidates, given one query's part of the draws."""


@dataclass(frozen=True)
class Squares(Moves):
    """L-inf: a window takes one colour, each channel as far up or down as it may go."""

    def start(self, x: Images, rng: Rng) -> Images:
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

    def window(self, x: Images, side: int) -> Tensors:
        return ()

    def propose(self, x: Images, x_now: Images, window: Tensors, draw: Tensors) -> Images:
        rows, columns, steps = draw
        return torch.lerp(x_now, (x + steps).clamp(0, 1), rows * columns)


@dataclass(frozen=True)
class L2Windows(Moves):
    """L2: a window takes the perturbation of another, bent towards a pair of opposite bumps.

    The norm stays ``eps``: what clamping to [0, 1] has left unused is spent in the window too.
    """

    def start(self, x: Images, rng: Rng) -> Images:
        """Tiles of bumps, five to the shorter side."""
        n, c, h, w = x.shape
        side = max(min(h, w) // 5, 1)
        tiles = (h // side, w // side)
        signs = _signs(rng.fold(0), (c, *tiles, 1, 1), x)
        turned = rng.fold(1).integers((1, *tiles), 2)
        delta = signs * _bumps(side).to(x).view(2, side, side)[turned]
        delta = delta.transpose(3, 4).reshape(n, c, tiles[0] * side, tiles[1] * side)
        top, left = (h - tiles[0] * side) // 2, (w - tiles[1] * side) // 2
        whole = torch.zeros_like(x)
        whole[:, :, top : top + delta.shape[2], left : left + delta.shape[3]] = delta
        return self.threat.project(x + self.threat.eps * self.threat.steepest_step(whole), x)

    def side(self, share: float, h: int, w: int) -> int:
        return min(max(round(math.sqrt(share * h * w)), 3) // 2 * 2 + 1, h, w)

    def draw(self, x: Images, side: int, count: int, rng: Rng) -> Tensors:
        _, c, h, w = x.shape
        rows = rng.fold(0).integers((count, 2, 1, 1), h - side + 1)
        columns = rng.fold(1).integers((count, 2, 1, 1), w - side + 1)
        turned = rng.fold(2).integers((count,), 2)
        return rows * w + columns, turned, _signs(rng.fold(3), (count, c, 1), x)

    def window(self, x: Images, side: int) -> Tensors:
        steps = torch.arange(side, device=x.device)
        return (steps[:, None] * x.shape[3] + steps).flatten(), _bumps(side).to(x)[:, None]

    def propose(self, x: Images, x_now: Images, window: Tensors, draw: Tensors) -> Images:
        (places, bumps), (corners, turned, signs) = window, draw
        delta = (x_now - x).flatten(2)
        n, c, _ = delta.shape
        unused = (self.threat.eps**2 - delta.square().sum((1, 2), keepdim=True)).clamp(min=0)
        to, source = (corners + places).expand(n, 2, c, -1).unbind(1)
        old = delta.gather(2, to)
        delta = delta.scatter(2, to, 0.0)
        budget = old.square().sum(2, keepdim=True) + unused / c
        budget += delta.gather(2, source).square().sum(2, keepdim=True)
        new = _unit(signs * bumps[turned] + _unit(old))
        delta.scatter_(2, source, 0.0).scatter_(2, to, budget.sqrt() * new)
        return self.threat.project(x + delta.view_as(x), x)


def _signs(rng: Rng, shape: tuple[int, ...], like: Tensor) -> Float[Tensor, "n *shape"]:
    return (2 * rng.integers(shape, 2) - 1).to(like.dtype)


def _covered(first: Int[Tensor, "n q"], side: int, length: int) -> Bool[Tensor, "n q length"]:
    """Which rows, or columns, lie in a window that begins at ``first``."""
    place = torch.arange(length, device=first.device) - first[..., None]
    return (place >= 0) & (place < side)


def _unit(x: Float[Tensor, "n c p"]) -> Float[Tensor, "n c p"]:
    """Each channel's perturbation over its Euclidean norm; zero stays zero."""
    unit: Tensor = x / torch.linalg.vector_norm(x, dim=2, keepdim=True).clamp(min=1e-12)
    return unit


def _bumps(side: int) -> Float[Tensor, "2 p"]:
    """A bump above a dip, and the same turned on its side, each of norm 1."""
    upper, lower = _bump(side // 2, side), _bump(side - side // 2, side)
    pair = torch.cat([upper, -lower])
    pair = pair / torch.linalg.vector_norm(pair)
    return torch.stack([pair, pair.T]).flatten(1)


def _bump(h: int, w: int) -> Float[Tensor, "h w"]:
    """Squares around the centre, one on the other, the k-th from the inside 1 / k^2 high."""
    reach = max(h, w) // 2 + 1
    rings: Tensor = (1 / torch.arange(1, reach + 1).square()).flip(0).cumsum(0).flip(0)
    away = [(torch.arange(side) - side // 2).abs() for side in (h, w)]
    return rings[torch.maximum(away[0][:, None], away[1])]
