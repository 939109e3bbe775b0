"""Defences with one deliberate fault each, and the checks that must find it.

They test the judge: most of them keep a high accuracy against PGD without being more robust than
the classifier that they protect. They must not be used as defences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, one_hot, pad

from spearshield.method import Defended
from spearshield.rng import Rng
from spearshield.types import Images, Labels, Logits, PerImage


@dataclass(frozen=True)
class Material:
    """What a flawed defence is built from: a trained classifier, and the images of its test."""

    classifier: nn.Module
    x: Images
    y: Labels


@dataclass(frozen=True)
class FlawedDefence:
    """A defence with one fault.

    Args:
        expected: Checks that must all find the fault.
    """

    name: str
    fault: str
    expected: tuple[str, ...]
    build: Callable[[Material], Defended]


class Layer(nn.Module):
    """A layer that applies a function and has no parameters."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def purifier(module: nn.Module) -> Callable[[Material], Defended]:
    """Builds the victim with this purifier."""
    return lambda material: Defended(module, material.classifier).eval()


def last_layer(module: nn.Module) -> Callable[[Material], Defended]:
    """Builds the victim without a purifier, with this layer after the classifier."""
    return lambda material: Defended(
        nn.Identity(), nn.Sequential(material.classifier, module)
    ).eval()


def blur(x: Images) -> Images:
    """A weighted mean of each pixel and its eight neighbours. A smooth denoiser without a fault."""
    side = torch.tensor([0.15, 0.7, 0.15], device=x.device)
    kernel = (side[:, None] * side).expand(x.shape[1], 1, 3, 3)
    padded = pad(x, (1, 1, 1, 1), mode="replicate")
    x_hat: Images = conv2d(padded, kernel.to(x), groups=x.shape[1]).clamp(0, 1)
    return x_hat


def rounded(x: Images, levels: int = 4) -> Images:
    """The nearest of ``levels`` equally spaced grey levels, with a gradient of zero."""
    return (x * (levels - 1)).round() / (levels - 1)


def straight_through(x: Images) -> Images:
    """Rounds to a few grey levels, with the gradient of the identity."""
    return x + (rounded(x) - x).detach()


def random_resizing(x: Images) -> Images:
    """Shrinks by a random factor and pads at a random place, from the global generator."""
    side = x.shape[-1]
    small = int(torch.randint(3 * side // 4, side + 1, ()))
    left, top = torch.randint(0, side - small + 1, (2,)).tolist()
    shrunk = interpolate(x, size=(small, small), mode="bilinear", align_corners=False)
    return pad(shrunk, (left, side - small - left, top, side - small - top))


def content_noise(x: Images) -> Images:
    """Adds noise seeded by the pixels, so that repeating a query gives the same answer."""
    noise = Rng.of_content(0, x).normal(x.shape[1:])
    return (x + 0.25 * noise).clamp(0, 1)


def batch_noise(x: Images) -> Images:
    """The nearest of four noisy images, with noise that depends on the position in the batch."""
    noisy = torch.stack(
        [
            (x + 0.2 * Rng.of_batch(k, len(x), x.device).normal(x.shape[1:])).clamp(0, 1)
            for k in range(4)
        ]
    )
    nearest = (noisy - x).square().flatten(2).sum(2).argmin(0)
    return noisy[nearest, torch.arange(len(x), device=x.device)]


def nan_near_boundary(logits: Logits) -> Logits:
    """Takes the logarithm of a negative number where the two largest logits are close."""
    best, second = logits.topk(2).values.unbind(1)
    return logits + 0 * (best - second - 1).log()[:, None]


class ScaledGradient(nn.Module):
    """The identity, with its gradient multiplied by ``factor``."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Images) -> Images:
        x_hat = x.clone()
        if x_hat.requires_grad:
            x_hat.register_hook(lambda gradient: self.factor * gradient)  # type: ignore[no-untyped-call]
        return x_hat


class LookUp(nn.Module):
    """Replaces images with pixels between 8-bit levels by the nearest clean test image."""

    def __init__(self, clean: Images) -> None:
        super().__init__()
        self.register_buffer("clean", clean)

    def forward(self, x: Images) -> Images:
        clean = self.get_buffer("clean")
        off_level = (x * 255 - (x * 255).round()).abs().flatten(1).amax(1)
        nearest = torch.cdist(x.detach().flatten(1), clean.flatten(1)).argmin(1)
        return torch.where(off_level[:, None, None, None] > 1e-3, clean[nearest], x)


class RoundingDetector(nn.Module):
    """Rejects images with pixels between 8-bit levels."""

    def forward(self, x: Images) -> Images:
        return x

    def detection_score(self, x: Images) -> PerImage:
        off_level = (255 * x - (255 * x).round()).abs() > 0.01
        return off_level.flatten(1).to(x).mean(1) - 0.1


class Memorised(nn.Module):
    """A classifier that returns the stored labels of the clean test images."""

    def __init__(self, material: Material) -> None:
        super().__init__()
        self.classifier = material.classifier
        self.register_buffer("x", material.x)
        self.register_buffer("y", material.y)

    def forward(self, x: Images) -> Logits:
        logits: Logits = self.classifier(x)
        stored, y = self.get_buffer("x"), self.get_buffer("y")
        distances = (x.detach().flatten(1)[:, None] - stored.flatten(1)).abs().amax(2)
        distance, nearest = distances.min(1)
        label = 20.0 * one_hot(y[nearest], logits.shape[1]).to(logits)
        return torch.where(distance[:, None] < 1e-6, label, logits)


def batch_statistics(material: Material) -> Defended:
    """Batch normalisation that is the identity in evaluation mode, left in training mode."""
    norm = nn.BatchNorm2d(material.x.shape[1])
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


DEFENCES = (
    FlawedDefence(
        "detached purifier",
        "no gradient reaches the image",
        ("broken_graph",),
        purifier(Layer(lambda x: blur(x.detach()))),
    ),
    FlawedDefence(
        "rounding to 4 grey levels",
        "the gradient is zero",
        ("zero_gradient",),
        purifier(Layer(rounded)),
    ),
    FlawedDefence(
        "denoiser and rounding",
        "the gradient is zero",
        ("zero_gradient", "unbounded_budget"),
        purifier(Layer(lambda x: rounded(blur(x)))),
    ),
    FlawedDefence(
        "random resizing",
        "undeclared randomness",
        ("random_answers",),
        purifier(Layer(random_resizing)),
    ),
    FlawedDefence(
        "noise seeded by the pixels",
        "hidden randomness",
        ("abrupt_answers",),
        purifier(Layer(content_noise)),
    ),
    FlawedDefence(
        "logits x 1000",
        "the cross-entropy saturates",
        ("saturated_gradient", "loss_gap"),
        last_layer(Layer(lambda logits: 1000 * logits)),
    ),
    FlawedDefence(
        "softmax outputs",
        "probabilities in place of logits",
        ("probabilities",),
        last_layer(nn.Softmax(1)),
    ),
    FlawedDefence(
        "batch statistics",
        "batch normalisation in training mode",
        ("training_mode", "batch_dependence"),
        batch_statistics,
    ),
    FlawedDefence(
        "NaN near the boundary",
        "logits that are not finite",
        ("not_finite",),
        last_layer(Layer(nan_near_boundary)),
    ),
    FlawedDefence(
        "look-up of clean images",
        "recognises attacked images by pixels between 8-bit levels and replaces them",
        ("abrupt_answers", "transfer_wins", "flat_accuracy"),
        lambda material: purifier(LookUp(material.x))(material),
    ),
    FlawedDefence(
        "rounding detector",
        "recognises attacked images by pixels between 8-bit levels and rejects them",
        ("blind_detector",),
        purifier(RoundingDetector()),
    ),
    FlawedDefence(
        "purifier out of range",
        "pixels from -1 to 3",
        ("purifier_range",),
        purifier(Layer(lambda x: 4 * x - 1)),
    ),
    FlawedDefence(
        "batch noise",
        "noise that depends on the position in the batch",
        ("batch_dependence",),
        purifier(Layer(batch_noise)),
    ),
    FlawedDefence(
        "negated gradient",
        "the gradient has the wrong sign",
        ("false_gradient", "planted_example"),
        purifier(ScaledGradient(-1.0)),
    ),
    FlawedDefence(
        "suppressed gradient",
        "the gradient is zero",
        ("zero_gradient", "black_box_wins", "transfer_wins"),
        purifier(ScaledGradient(0.0)),
    ),
    FlawedDefence(
        "memorised test images",
        "returns the stored labels of the clean test images",
        ("memorised_images",),
        lambda material: Defended(nn.Identity(), Memorised(material)).eval(),
    ),
    FlawedDefence(
        "straight-through rounding",
        "the gradient of the identity in place of its own",
        ("false_gradient",),
        purifier(Layer(straight_through)),
    ),
)
