"""Defences with one deliberate fault each, and the checks that must find it.

Most of them keep a high accuracy under a usual attack without being more robust than the classifier
that they protect. Do not use them as defences.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from spearshield.method import Defended
from spearshield.rng import Rng
from spearshield.selftest import modules
from spearshield.selftest.layers import Layer, ScaledGradient, blur, rounded, straight_through
from spearshield.selftest.networks import Networks
from spearshield.selftest.specimen import Specimen
from spearshield.types import Images, Logits


def in_front(layer: nn.Module) -> Callable[[Networks], nn.Module]:
    """A function that builds one module: this layer in front of the plain network."""
    return lambda networks: nn.Sequential(layer, networks.plain)


def behind(layer: nn.Module) -> Callable[[Networks], nn.Module]:
    """A function that builds one module: the plain network, and this layer behind it."""
    return lambda networks: nn.Sequential(networks.plain, layer)


def purifier(module: nn.Module) -> Callable[[Networks], nn.Module]:
    """A function that builds the plain network behind this purifier, as two parts."""
    return lambda networks: Defended(module, networks.plain)


def defence(
    name: str,
    about: str,
    expected: tuple[str, ...],
    build: Callable[[Networks], nn.Module],
    *,
    forbidden: tuple[str, ...] = (),
    refusal: str = "",
    truth: float | None = None,
) -> Specimen:
    """A flawed defence."""
    return Specimen(
        "flawed defence",
        name,
        about,
        build,
        expected=expected,
        forbidden=forbidden,
        refusal=refusal,
        truth=truth,
    )


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


def nan_gradient(x: Images) -> Images:
    """The identity; the gradient of every pixel above 0.5 is NaN."""
    return x + 0 * ((x + 1) * (x < 0.5)).sqrt()


def fails_backward(logits: Logits) -> Logits:
    """The identity; its backward pass raises if the two largest logits of an image are close."""
    best, second = logits.detach().topk(2).values.unbind(1)

    def check(gradient: Tensor) -> Tensor:
        if bool((best - second < 0.5).any()):
            raise ArithmeticError("the two largest logits are close")
        return gradient

    if logits.requires_grad:
        logits.register_hook(check)  # type: ignore[no-untyped-call]
    return logits


def batch_statistics(networks: Networks) -> nn.Module:
    """Batch normalisation that never uses running statistics, in front of the plain network."""
    norm = nn.BatchNorm2d(networks.x.shape[1], track_running_stats=False)
    mean, variance = networks.x.mean((0, 2, 3)), networks.x.var((0, 2, 3))
    norm.load_state_dict({"weight": (variance + norm.eps).sqrt(), "bias": mean})
    return nn.Sequential(norm, networks.plain)


DEFENCES = (
    defence(
        "detached purifier",
        "no gradient reaches the image",
        ("broken_graph",),
        in_front(Layer(lambda x: blur(x.detach()))),
        truth=0.27,
    ),
    defence(
        "rounding to 4 grey levels",
        "the gradient is zero",
        ("zero_gradient",),
        in_front(Layer(rounded)),
        truth=0.60,
    ),
    defence(
        "denoiser and rounding",
        "the gradient is zero",
        ("zero_gradient",),
        in_front(Layer(lambda x: rounded(blur(x)))),
        truth=0.14,
    ),
    defence(
        "random resizing",
        "undeclared randomness",
        ("random_answers",),
        in_front(Layer(random_resizing)),
    ),
    defence(
        "noise seeded by the pixels",
        "hidden randomness",
        ("abrupt_answers",),
        in_front(Layer(content_noise)),
        forbidden=("memorised_images",),
    ),
    defence(
        "network chosen by a hash of the pixels",
        "hidden randomness",
        ("abrupt_answers",),
        lambda networks: modules.ChosenByHash([*networks.members]),
        forbidden=("memorised_images",),
    ),
    defence(
        "softmax outputs",
        "probabilities in place of logits",
        (),
        behind(nn.Softmax(1)),
        refusal="returns probabilities",
    ),
    defence(
        "batch statistics",
        "batch normalisation without running statistics",
        ("batch_dependence",),
        batch_statistics,
    ),
    defence(
        "NaN near the boundary",
        "logits that are not finite",
        ("not_finite",),
        behind(Layer(nan_near_boundary)),
    ),
    defence(
        "NaN gradient",
        "finite logits, and a gradient of NaN for bright pixels",
        ("not_finite",),
        in_front(Layer(nan_gradient)),
        truth=0.28,
    ),
    defence(
        "error near the boundary",
        "the backward pass raises an exception for some attacked images",
        ("could_not_run",),
        behind(Layer(fails_backward)),
        truth=0.28,
    ),
    defence(
        "look-up of clean images",
        "recognises attacked images by pixels between 8-bit levels and replaces them",
        ("abrupt_answers",),
        lambda networks: nn.Sequential(modules.LookUp(networks.x), networks.plain),
        truth=0.34,
    ),
    defence(
        "gate on the grid of pixel values",
        "a black-and-white copy answers for images with pixels between 8-bit levels",
        ("abrupt_answers", "zero_gradient"),
        lambda networks: modules.GridGate(networks.plain),
        truth=0.32,
    ),
    defence(
        "rounding detector",
        "recognises attacked images by pixels between 8-bit levels and rejects them",
        ("blind_detector",),
        purifier(modules.RoundingDetector()),
        truth=0.34,
    ),
    defence(
        "detector with a decoy slope",
        "a hard threshold on the number of dark grey pixels; the gradient leads elsewhere",
        ("blind_detector",),
        purifier(modules.DecoyDetector()),
    ),
    defence(
        "purifier out of range",
        "pixels from -1 to 3",
        (),
        purifier(Layer(lambda x: 4 * x - 1)),
        refusal="the purifier's output is not an image",
    ),
    defence(
        "batch noise",
        "noise that depends on the position in the batch",
        ("batch_dependence",),
        in_front(Layer(batch_noise)),
    ),
    defence(
        "negated gradient",
        "the gradient has the wrong sign",
        ("false_gradient",),
        in_front(ScaledGradient(-1.0)),
        truth=0.28,
    ),
    defence(
        "suppressed gradient",
        "the gradient is zero",
        ("zero_gradient",),
        in_front(ScaledGradient(0.0)),
        truth=0.28,
    ),
    defence(
        "memorised test images",
        "returns the stored labels of the clean test images",
        ("memorised_images",),
        modules.Memorised,
        truth=0.28,
    ),
    defence(
        "straight-through rounding",
        "the gradient of the identity in place of its own",
        ("false_gradient",),
        in_front(Layer(straight_through)),
        truth=0.60,
    ),
    defence(
        "hard votes",
        "three networks vote; votes have no gradient",
        ("broken_graph",),
        lambda networks: modules.HardVotes([*networks.members]),
        truth=0.37,
    ),
    defence(
        "nearest neighbour with a decoy slope",
        "labels of the nearest training images, with the gradient of a random linear function",
        ("planted_example",),
        lambda networks: modules.NearestNeighbour(networks.train.images(), networks.train.y),
        truth=0.51,
    ),
    defence(
        "count of queries",
        "every query is answered with other noise",
        ("random_answers",),
        lambda networks: nn.Sequential(modules.CountedNoise(), networks.plain),
    ),
    defence(
        "memory of queries",
        "answers a query near an earlier query as it answered the earlier one",
        ("zero_gradient",),
        lambda networks: modules.QueryMemory(networks.plain),
        forbidden=("batch_dependence",),
    ),
)
