"""Modules of the flawed defences."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from spearshield.rng import Rng
from spearshield.selftest.layers import off_grid, rounded
from spearshield.selftest.networks import THREAT, Networks
from spearshield.types import Images, Labels, Logits, Mask, PerImage


class LookUp(nn.Module):
    """Replaces images with pixels between 8-bit levels by the nearest clean test image."""

    def __init__(self, clean: Images) -> None:
        super().__init__()
        self.register_buffer("clean", clean)

    def forward(self, x: Images) -> Images:
        clean = self.get_buffer("clean")
        nearest = torch.cdist(x.detach().flatten(1), clean.flatten(1)).argmin(1)
        return torch.where(_column(off_grid(x)), clean[nearest], x)


class GridGate(nn.Module):
    """Classifies images with pixels between 8-bit levels in black and white, without a gradient."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Images) -> Logits:
        logits: Logits = self.classifier(torch.where(_column(off_grid(x)), rounded(x, 2), x))
        return logits


class RoundingDetector(nn.Module):
    """Rejects images with pixels between 8-bit levels."""

    def forward(self, x: Images) -> Images:
        return x

    def detection_score(self, x: Images) -> PerImage:
        between = (255 * x - (255 * x).round()).abs() > 0.01
        return between.flatten(1).to(x).mean(1) - 0.1


class DecoyDetector(nn.Module):
    """Rejects images with many dark grey pixels; its gradient only leads to brighter images."""

    def forward(self, x: Images) -> Images:
        return x

    def detection_score(self, x: Images) -> PerImage:
        grey = ((x > 0.02) & (x < 0.25)).flatten(1).to(x).mean(1)
        return (grey > 0.2).to(x) - 0.5 - 1e-3 * x.flatten(1).mean(1)


class Memorised(nn.Module):
    """A classifier that returns the stored labels of the clean test images."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.classifier = networks.plain
        self.register_buffer("x", networks.x)
        self.register_buffer("y", networks.y)

    def forward(self, x: Images) -> Logits:
        logits: Logits = self.classifier(x)
        stored, y = self.get_buffer("x"), self.get_buffer("y")
        distances = (x.detach().flatten(1)[:, None] - stored.flatten(1)).abs().amax(2)
        distance, nearest = distances.min(1)
        label = 20.0 * one_hot(y[nearest], logits.shape[1]).to(logits)
        return torch.where(distance[:, None] < 1e-6, label, logits)


class ChosenByHash(nn.Module):
    """A hash of the pixels chooses the network that answers."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Images) -> Logits:
        chosen = Rng.of_content(0, x).integers((), len(self.networks))
        logits = torch.stack([network(x) for network in self.networks])
        return logits[chosen, torch.arange(len(x), device=x.device)]


class HardVotes(nn.Module):
    """The number of networks that vote for each class."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Images) -> Logits:
        logits = torch.stack([network(x) for network in self.networks])
        votes: Logits = one_hot(logits.argmax(2), logits.shape[2]).to(x).sum(0)
        return votes


class NearestNeighbour(nn.Module):
    """The label of the nearest training image, with the gradient of a random linear function."""

    def __init__(self, x: Images, y: Labels) -> None:
        super().__init__()
        self.register_buffer("x", x.flatten(1))
        self.register_buffer("y", y)
        self.register_buffer("slope", 0.01 * Rng.of_batch(0, x[0].numel()).normal((10,)))

    def forward(self, x: Images) -> Logits:
        flat = x.flatten(1)
        nearest = torch.cdist(flat.detach(), self.get_buffer("x")).argmin(1)
        label = one_hot(self.get_buffer("y")[nearest], 10).to(x)
        return label + flat @ self.get_buffer("slope")


class CountedNoise(nn.Module):
    """Adds noise that depends on the number of earlier queries."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = 0

    def forward(self, x: Images) -> Images:
        self.queries += 1
        noise = Rng.of_batch(self.queries, len(x), x.device).normal(x.shape[1:])
        return (x + 0.2 * noise).clamp(0, 1)


REMEMBERED = 100
"""Number of queries that a :class:`QueryMemory` stores."""


class QueryMemory(nn.Module):
    """Answers an image near an earlier one, within twice the budget, as it answered that one."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.images: Tensor | None = None
        self.answers: Tensor | None = None

    def forward(self, x: Images) -> Logits:
        logits: Logits = self.classifier(x)
        if self.images is None or self.answers is None:
            self.images, self.answers = x.detach().flatten(1), logits.detach()
            return logits
        distance, index = self._nearest(x)
        near, answer = distance < 2 * THREAT.eps, self.answers[index]
        self.images = torch.cat([self.images, x.detach().flatten(1)[~near]])[:REMEMBERED]
        self.answers = torch.cat([self.answers, logits.detach()[~near]])[:REMEMBERED]
        return torch.where(near[:, None], answer, logits)

    def _nearest(self, x: Images) -> tuple[PerImage, Labels]:
        assert self.images is not None
        distances = (x.detach().flatten(1)[:, None] - self.images).abs().amax(2)
        distance, index = distances.min(1)
        return distance, index


def _column(mask: Mask) -> Tensor:
    """The mask in a shape that broadcasts over images."""
    return mask[:, None, None, None]
