"""MagNet: autoencoders reject images that they reconstruct badly, and purify the others.

Meng, Chen, "MagNet: a Two-Pronged Defense against Adversarial Examples", 2017.
https://arxiv.org/abs/1705.09064

    A  autoencoder  x + noise -> x   with a pooling layer; the purifier, and a detector
    B  autoencoder  x + noise -> x   without a pooling layer; a detector
    f  the classifier;  T  a temperature that softens its probabilities

    L = MSE(A(x + noise), x) + activity * |activations of A|^2, and so for B
    errors of x: mean (A(x) - x)^2,  mean |B(x) - x|,
                 for each T: JSD(softmax(f(x) / T), softmax(f(A(x)) / T))
    x is rejected if an error is above its threshold; else its logits are f(A(x))

Differences from the paper. Networks and settings for MNIST are those of the authors' release,
https://github.com/Trevillie/MagNet. The settings for CIFAR-10, which the release lacks, are
``MagNet.cifar10()``: one network without pooling is both A and B, and there are temperatures. As in
the release, the error of A is the mean square without a root.

- The thresholds are quantiles over the last clean training images, each with its errors before the
  step that trained on it; the release uses a validation set. On new images the share of rejected
  images can exceed the rates, above all for the divergence, because f was trained on the training
  images.
- Noise is drawn at each step, not once for each image.
- The activity penalty is a sum over the activations of an image, and a mean over images.
- The paper's random choice among several networks, against adaptive attackers, is not implemented.

The defence was broken by an adaptive attack: Carlini, Wagner, 2017,
https://arxiv.org/abs/1711.08478.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from spearshield.method import Learner, Method, Outcome, Paper, Task
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.optim import minimise
from spearshield.types import Images, Labels, Logits, PerImage, Scalar


@dataclass(frozen=True)
class MagNet(Method):
    """Hyper-parameters of MagNet, with the defaults of the authors' release for MNIST.

    Args:
        pair: If true, A has a pooling layer and B has none; else one network without pooling is
            both.
        width: Channels of the convolutions.
        noise: Standard deviation of the noise, on the [0, 1] pixel scale.
        activity: Weight of the squared activations.
        rate: Share of clean images that each of the two pixel errors may reject, in [0, 1).
        temperatures: The temperatures of the divergences; empty: no divergence is used.
        divergence_rate: Share of clean images that each divergence may reject, in [0, 1).
        calibration_images: Number of the latest training images that determine the thresholds.
        lr: Learning rate of Adam.

    Raises:
        ValueError: A number is out of range.
    """

    paper = Paper(
        "MagNet: a Two-Pronged Defense against Adversarial Examples",
        "Meng, Dongyu and Chen, Hao",
        2017,
        "https://arxiv.org/abs/1705.09064",
    )

    pair: bool = True
    width: int = 3
    noise: float = 0.1
    activity: float = 1e-9
    rate: float = 0.001
    temperatures: tuple[float, ...] = ()
    divergence_rate: float = 0.01
    calibration_images: int = 5000
    lr: float = 1e-3

    def __post_init__(self) -> None:
        require(self, "width", "calibration_images", at_least=1)
        require(self, "noise", "activity", "lr", at_least=0)
        require(self, "rate", "divergence_rate", at_least=0, below=1)
        if not all(temperature > 0 for temperature in self.temperatures):
            raise ValueError(f"temperatures must be positive, got {self.temperatures}")

    @classmethod
    def cifar10(cls) -> MagNet:
        """The hyper-parameters for CIFAR-10."""
        return cls(pair=False, noise=0.025, rate=0.005, temperatures=(10.0, 40.0))

    @property
    def rates(self) -> tuple[float, ...]:
        """The share of clean images that each detector may reject."""
        return self.rate, self.rate, *(self.divergence_rate for _ in self.temperatures)

    def learner(self, task: Task) -> MagNetLearner:
        return MagNetLearner(self, task)


class MagNetLearner(Learner):
    """The last ``known`` rows of ``errors`` are those of the latest images, newest last."""

    errors: torch.Tensor
    known: torch.Tensor

    def __init__(self, method: MagNet, task: Task) -> None:
        super().__init__()
        self.method = method
        pooling = (True, False) if method.pair else (False,)
        self.reformer = Reformer(
            [Autoencoder(task.shape[0], method.width, pooled) for pooled in pooling],
            task.classifier,
            method.temperatures,
        )
        self.optimiser = torch.optim.Adam(self.reformer.parameters(), method.lr)
        # Of full size from the start, so that the checkpoints of all steps have the same shapes.
        size = method.calibration_images, len(method.rates)
        self.register_buffer("errors", torch.zeros(size))
        self.register_buffer("known", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        self.calibrate(x)
        noisy = (x + self.method.noise * rng.normal(x.shape[1:])).clamp(0, 1)
        found = [self.loss(network, noisy, x) for network in self.reformer.autoencoders]
        minimise(self.optimiser, torch.stack([mse + penalty for mse, penalty in found]).sum())
        return {f"mse_{name}": mse.item() for name, (mse, _) in zip("ab", found, strict=False)}

    def loss(self, network: nn.Module, noisy: Images, x: Images) -> tuple[Scalar, Scalar]:
        """The mean squared error of the network on noisy images, and its activity penalty."""
        activations = network.activations(noisy)  # type: ignore[operator]
        penalty = sum(layer.square().sum() for layer in activations) / len(x)
        return mse_loss(activations[-1], x), self.method.activity * penalty

    @torch.no_grad()
    def calibrate(self, x: Images) -> None:
        """Set the thresholds to quantiles of the errors of the latest clean images."""
        size = len(self.errors)
        self.errors = torch.cat([self.errors, self.reformer.errors(x)])[-size:]
        self.known = (self.known + len(x)).clamp(max=size)
        columns = self.errors[size - int(self.known) :].unbind(1)
        limits = [threshold(*pair) for pair in zip(columns, self.method.rates, strict=True)]
        self.reformer.thresholds = torch.stack(limits)

    def outcome(self) -> Outcome:
        (classifier,) = self.reformer.watched
        return Outcome(classifier, purifier=self.reformer.eval())


class Reformer(nn.Module):
    """The purifier A(x), which rejects images with an error above its threshold.

    Args:
        autoencoders: A and B, or one network that is both.
        classifier: The classifier whose probabilities are compared; its weights are not part of
            this module.
    """

    thresholds: torch.Tensor

    def __init__(
        self, autoencoders: list[nn.Module], classifier: nn.Module, temperatures: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.autoencoders = nn.ModuleList(autoencoders)
        self.watched = (classifier,)  # in a tuple, so that its weights are not saved here too
        self.temperatures = temperatures
        # No error is above 1, so nothing is rejected before the first step.
        self.register_buffer("thresholds", torch.ones(2 + len(temperatures)))

    def forward(self, x: Images) -> Images:
        x_hat: Images = self.autoencoders[0](x)
        return x_hat

    def detection_score(self, x: Images) -> PerImage:
        """The largest relative excess of an error over its threshold, for each image."""
        return (self.errors(x) / self.thresholds - 1).amax(1)

    def errors(self, x: Images) -> Float[Tensor, "n detectors"]:
        """The errors of each image, one column per detector."""
        A, B = self.autoencoders[0], self.autoencoders[-1]
        x_hat = A(x)
        found = [(x_hat - x).square().flatten(1).mean(1), (B(x) - x).abs().flatten(1).mean(1)]
        if self.temperatures:
            (f,) = self.watched
            before, after = f(x), f(x_hat)
            found += [jensen_shannon(before / T, after / T) for T in self.temperatures]
        return torch.stack(found, 1)


class Autoencoder(nn.Module):
    """3x3 convolutions, each followed by a sigmoid, for images of any size.

    Args:
        pooled: If true, the maps are halved after the first convolution, and doubled again after
            two more.
    """

    def __init__(self, channels: int, width: int, pooled: bool) -> None:
        super().__init__()

        def conv(inward: int, outward: int) -> nn.Conv2d:
            layer = nn.Conv2d(inward, outward, 3, padding=1)
            nn.init.xavier_uniform_(
                layer.weight
            )  # as in the release; smaller weights make the sigmoids constant
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            return layer

        down, up = nn.AvgPool2d(2, ceil_mode=True), nn.Upsample(scale_factor=2)
        halved = [down, conv(width, width), conv(width, width), up] if pooled else []
        ends = conv(channels, width), conv(width, width), conv(width, channels)
        self.layers = nn.ModuleList([ends[0], *halved, *ends[1:]])

    def forward(self, x: Images) -> Images:
        return self.activations(x)[-1]

    def activations(self, x: Tensor) -> list[Tensor]:
        """The output of each convolution; the last one is the reconstructed images."""
        h, w = x.shape[2:]
        found: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                x = x.sigmoid()
                found.append(x)
        return [*found[:-1], x[:, :, :h, :w]]


def jensen_shannon(a: Logits, b: Logits) -> PerImage:
    """The Jensen-Shannon divergence of the two softmax outputs, in nats: from 0 to log 2."""
    # At high temperatures the difference is close to the precision of float32.
    log_p, log_q = a.double().log_softmax(1), b.double().log_softmax(1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    divergence = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return 0.5 * divergence.sum(1).float()


def threshold(errors: PerImage, rate: float) -> Scalar:
    """The smallest of ``errors`` such that at most a share ``rate`` of them is larger.

    It is positive, so that it can be a divisor.
    """
    above = int(rate * len(errors))
    limit = errors.sort(descending=True).values[above]
    return limit.clamp(min=torch.finfo(limit.dtype).tiny)
