"""Defences that are wrong on purpose, each in one way, and the findings that must give them away.

They prove that the judge works: most of them keep a high accuracy against plain PGD without being
any more robust than the classifier behind them. None is meant to be used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, one_hot, pad

from spearshield.method import Defended
from spearshield.rng import Rng
from spearshield.types import Images, Labels, Logits, PerImage


@dataclass(frozen=True)
class Material:
    """What a defence is made from: a trained classifier, and the images it will be judged on."""

    classifier: nn.Module
    x: Images
    y: Labels


@dataclass(frozen=True)
class Planted:
    """A defence with one fault.

    Args:
        meant: Checks that must all find it.
    """

    name: str
    fault: str
    meant: tuple[str, ...]
    build: Callable[[Material], Defended]


class Blur(nn.Module):
    """A smooth denoiser: a weighted mean of each pixel and the eight around it. Honest."""

    def forward(self, x: Images) -> Images:
        side = torch.tensor([0.15, 0.7, 0.15], device=x.device)
        kernel = (side[:, None] * side).expand(x.shape[1], 1, 3, 3)
        padded = pad(x, (1, 1, 1, 1), mode="replicate")
        x_hat: Images = nn.functional.conv2d(padded, kernel.to(x), groups=x.shape[1]).clamp(0, 1)
        return x_hat


class Detached(nn.Module):
    """A denoiser that hands on no graph."""

    def forward(self, x: Images) -> Images:
        x_hat: Images = Blur()(x.detach())
        return x_hat


def rounded(x: Images, levels: int = 4) -> Images:
    """The nearest of ``levels`` equally spaced grey levels."""
    return (x * (levels - 1)).round() / (levels - 1)


class Staircase(nn.Module):
    """Rounds to a few grey levels; the gradient of a step is zero."""

    def forward(self, x: Images) -> Images:
        return rounded(x)


class BlurredStaircase(nn.Module):
    """Denoises, then rounds."""

    def forward(self, x: Images) -> Images:
        return rounded(Blur()(x))


class StraightThrough(nn.Module):
    """Rounds to a few grey levels, and claims the slope of the identity."""

    def forward(self, x: Images) -> Images:
        return x + (rounded(x) - x).detach()


class RandomResizing(nn.Module):
    """Shrinks by a random share and pads at a random place, from the global generator."""

    def forward(self, x: Images) -> Images:
        side = x.shape[-1]
        small = int(torch.randint(3 * side // 4, side + 1, ()))
        left, top = torch.randint(0, side - small + 1, (2,)).tolist()
        shrunk = interpolate(x, size=(small, small), mode="bilinear", align_corners=False)
        return pad(shrunk, (left, side - small - left, top, side - small - top))


class OwnNoise(nn.Module):
    """Noise drawn from the image's own pixels, so that a repeated query shows nothing of it."""

    def forward(self, x: Images) -> Images:
        noise = Rng.of_content(0, x).normal(x.shape[1:])
        return (x + 0.25 * noise).clamp(0, 1)


class BatchRestarts(nn.Module):
    """The best of four noisy restarts, whose noise is that of the place in the batch."""

    def forward(self, x: Images) -> Images:
        restarts = torch.stack(
            [
                (x + 0.2 * Rng.of_batch(k, len(x), x.device).normal(x.shape[1:])).clamp(0, 1)
                for k in range(4)
            ]
        )
        best = (restarts - x).square().flatten(2).sum(2).argmin(0)
        return restarts[best, torch.arange(len(x), device=x.device)]


class CacheOnNoise(nn.Module):
    """Returns the nearest clean image for whatever no 8-bit file can hold, as attacks make."""

    def __init__(self, x: Images) -> None:
        super().__init__()
        self.register_buffer("cache", x)

    def forward(self, x: Images) -> Images:
        cache = self.get_buffer("cache")
        away = (x * 255 - (x * 255).round()).abs().flatten(1).amax(1)
        nearest = torch.cdist(x.detach().flatten(1), cache.flatten(1)).argmin(1)
        return torch.where(away[:, None, None, None] > 1e-3, cache[nearest], x)


class DigitsDetector(nn.Module):
    """Rejects images with pixels that no 8-bit file can hold."""

    def forward(self, x: Images) -> Images:
        return x

    def detection_score(self, x: Images) -> PerImage:
        off = (255 * x - (255 * x).round()).abs() > 0.01
        return off.flatten(1).to(x).mean(1) - 0.1


class OutOfRange(nn.Module):
    """Returns pixels from -1 to 3."""

    def forward(self, x: Images) -> Images:
        return 4 * x - 1


class Slope(torch.autograd.Function):
    """The identity, with another slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.slope = slope
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.slope * gradient, None


class Sloped(nn.Module):
    """Leaves the image as it is, and its gradient times ``slope``."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Images) -> Images:
        x_hat: Images = Slope.apply(x, self.slope)  # type: ignore[no-untyped-call]
        return x_hat


class Scaled(nn.Module):
    """Logits times a thousand: a softmax of them is sure beyond what float32 resolves."""

    def forward(self, logits: Logits) -> Logits:
        return 1000 * logits


class NaNWhenUnsure(nn.Module):
    """The logarithm of a negative number for images that lie near a decision boundary."""

    def forward(self, logits: Logits) -> Logits:
        best, second = logits.topk(2).values.unbind(1)
        return logits + 0 * (best - second - 1).log()[:, None]


class Memory(nn.Module):
    """A classifier that knows the answers to the clean test images by heart."""

    def __init__(self, material: Material) -> None:
        super().__init__()
        self.classifier = material.classifier
        self.register_buffer("x", material.x)
        self.register_buffer("y", material.y)

    def forward(self, x: Images) -> Logits:
        logits: Logits = self.classifier(x)
        known, y = self.get_buffer("x"), self.get_buffer("y")
        away = (x.detach().flatten(1)[:, None] - known.flatten(1)).abs().amax(2)
        distance, nearest = away.min(1)
        answer = 20.0 * one_hot(y[nearest], logits.shape[1]).to(logits)
        return torch.where(distance[:, None] < 1e-6, answer, logits)


def batch_statistics(material: Material) -> Defended:
    """Batch normalisation that does nothing, until it takes the batch's statistics."""
    channels = material.x.shape[1]
    norm = nn.BatchNorm2d(channels)
    mean, variance = material.x.mean((0, 2, 3)), material.x.var((0, 2, 3))
    norm.load_state_dict(
        {
            "weight": (variance + norm.eps).sqrt(),
            "bias": mean,
            "running_mean": mean,
            "running_var": variance,
            "num_batches_tracked": torch.tensor(0),
        }
    )
    victim = Defended(nn.Identity(), nn.Sequential(norm, material.classifier)).eval()
    norm.train()
    return victim


def purified(purifier: Callable[[], nn.Module]) -> Callable[[Material], Defended]:
    """The classifier behind a purifier."""
    return lambda material: Defended(purifier(), material.classifier).eval()


def answered(layer: Callable[[], nn.Module]) -> Callable[[Material], Defended]:
    """The classifier before a last layer."""
    return lambda material: Defended(
        nn.Identity(), nn.Sequential(material.classifier, layer())
    ).eval()


DEFENCES = (
    Planted("detached purifier", "the graph is cut", ("broken_graph",), purified(Detached)),
    Planted("staircase quantiser", "the gradient is zero", ("zero_gradient",), purified(Staircase)),
    Planted(
        "denoiser and rounding",
        "the gradient is zero",
        ("zero_gradient", "unbounded_budget"),
        purified(BlurredStaircase),
    ),
    Planted("random resizing", "chance, undeclared", ("random_answers",), purified(RandomResizing)),
    Planted("noise from the pixels", "chance, hidden", ("abrupt_answers",), purified(OwnNoise)),
    Planted(
        "logits x 1000",
        "the cross-entropy saturates",
        ("saturated_gradient", "loss_gap"),
        answered(Scaled),
    ),
    Planted(
        "softmax outputs",
        "probabilities for logits",
        ("probabilities",),
        answered(lambda: nn.Softmax(1)),
    ),
    Planted(
        "batch statistics",
        "batch normalisation in training mode",
        ("training_mode", "batch_dependence"),
        batch_statistics,
    ),
    Planted(
        "NaN when unsure", "no answer to hard images", ("not_finite",), answered(NaNWhenUnsure)
    ),
    Planted(
        "cache on noise",
        "recognises attacked images by their last digits and returns clean ones",
        ("abrupt_answers", "transfer_wins", "flat_accuracy"),
        lambda material: Defended(CacheOnNoise(material.x), material.classifier).eval(),
    ),
    Planted(
        "detector of digits",
        "rejects attacked images by their last digits",
        ("blind_detector",),
        purified(DigitsDetector),
    ),
    Planted("out-of-range output", "no image", ("purifier_range",), purified(OutOfRange)),
    Planted(
        "batch restarts",
        "noise that depends on the place in the batch",
        ("batch_dependence",),
        purified(BatchRestarts),
    ),
    Planted(
        "flipped gradient",
        "the gradient has the wrong sign",
        ("false_gradient", "planted_example"),
        purified(lambda: Sloped(-1.0)),
    ),
    Planted(
        "killed gradient",
        "the gradient is zero",
        ("zero_gradient", "black_box_wins", "transfer_wins"),
        purified(lambda: Sloped(0.0)),
    ),
    Planted(
        "memory",
        "knows the clean test images by heart",
        ("memorised_images",),
        lambda material: Defended(nn.Identity(), Memory(material)).eval(),
    ),
    Planted(
        "straight-through discretiser",
        "claims a slope it does not have",
        ("false_gradient",),
        purified(StraightThrough),
    ),
)
