"""Projection on the range of a generator by a search for latents.

The search itself is in :mod:`spearshield.methods.defense_gan`. This file adds chunks, a cache, the
exact gradient of the last steps, and the rejection of images with a large error.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spearshield.method import RandomPurifier, frozen
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.storage.digest import digest
from spearshield.types import Classifier, Images, PerImage

Latents: TypeAlias = Float[Tensor, "n latent"]
AnyLatents: TypeAlias = Float[Tensor, "n *restarts latent"]


@dataclass(frozen=True)
class LatentSearchSettings:
    """Gradient descent with momentum from several starts.

    Args:
        steps: Number of steps L.
        restarts: Number of starts R per image.
        lr: Learning rate, for the mean squared error over the pixels of an image.
        momentum: Share of the previous update that is added to the gradient, in [0, 1).
        z_std: Standard deviation of the starts, which are Gaussian with mean zero.
        unroll: The result is differentiable through this number of last steps; 0: no gradient.
        chunk: Number of latents in one batch; changes speed and memory, not results.

    Raises:
        ValueError: A number is out of range.
    """

    steps: int = 200
    restarts: int = 10
    lr: float = 10.0
    momentum: float = 0.7
    z_std: float = 128**-0.5
    unroll: int = 10
    chunk: int = 500

    def __post_init__(self) -> None:
        require(self, "steps", "z_std", "unroll", at_least=0)
        require(self, "restarts", "chunk", at_least=1)
        require(self, "lr", above=0)
        require(self, "momentum", at_least=0, below=1)


class LatentProjection(RandomPurifier):
    """A purifier that returns, for each image, a generated image near it.

    The output for an image does not depend on its batch, except for rounding. The resulting latents
    are cached. A subclass implements the search.

    Args:
        generator: Maps latents to images. Neither its weights nor its mode change.
        latent: Dimension of a latent.
        encoder: Maps images to latents, for :attr:`differentiable_approximation`; a subclass may
            also use it in the search.
        threshold: Mean squared error above which an image is rejected.
    """

    def __init__(
        self,
        generator: nn.Module,
        latent: int,
        settings: LatentSearchSettings,
        encoder: nn.Module | None = None,
        threshold: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.G = generator
        self.E = encoder
        self.latent = latent
        self.settings = settings
        self.threshold = threshold
        self._cache = LatentCache()

    @abc.abstractmethod
    def starts(self, x: Images, rng: Rng) -> Float[Tensor, "n restarts latent"]:
        """The latents that the search starts from."""

    @abc.abstractmethod
    def nearest(
        self, x: Images, z: Float[Tensor, "n restarts latent"], unroll: int
    ) -> tuple[Latents, Latents, Latents]:
        """The result of the search from ``z``, and its state ``unroll`` steps before the end.

        Returns:
            The latent of each image at the end; its latent and its velocity ``unroll`` steps
            before.
        """

    @abc.abstractmethod
    def descend(
        self, x: Images, z: AnyLatents, velocity: AnyLatents, steps: int, graph: bool = False
    ) -> tuple[AnyLatents, AnyLatents]:
        """Latents and velocities after ``steps`` steps.

        Args:
            graph: If true, they are differentiable in ``x``, ``z`` and ``velocity``.
        """

    @property
    def differentiable_approximation(self) -> Classifier:
        """The function G(E(x)), which is close to the projection and differentiable.

        Raises:
            AttributeError: There is no encoder.
        """
        if self.E is None:
            raise AttributeError("differentiable_approximation")
        generator, encoder = frozen(self.G), frozen(self.E)
        return lambda x: generator(encoder(x))

    def purify(self, x: Images, rng: Rng) -> Images:
        x_hat: Images = frozen(self.G)(self._latents(x, rng))
        return x_hat

    def detection_score(self, x: Images) -> PerImage:
        """The relative excess of each image's mean squared error over the threshold."""
        _, error = self.search(x, Rng.of_content(self.seed, x).fold(0))
        return error / self.threshold - 1

    def search(self, x: Images, rng: Rng) -> tuple[Latents, PerImage]:
        """The latent of each image, and the mean squared error of its generated image.

        If ``x`` requires a gradient, both are differentiable in ``x``. The gradient is exact for
        the last ``unroll`` steps; the latent before them is taken to be independent of ``x``.
        """
        z = self._latents(x, rng)
        return z, squared_error(frozen(self.G)(z), x)

    def generate(self, z: AnyLatents) -> Float[Tensor, "n *restarts c h w"]:
        """The images of latents. Gradients reach ``z``, not the weights of G."""
        x_hat = frozen(self.G)(z.flatten(0, -2))
        return x_hat.reshape(*z.shape[:-1], *x_hat.shape[1:])

    def _latents(self, x: Images, rng: Rng) -> Latents:
        if self.settings.unroll and torch.is_grad_enabled() and x.requires_grad:
            return self._in_chunks(x, rng, differentiable=True)
        weights = [*self.G.parameters(), *(self.E.parameters() if self.E else ())]
        return self._cache(
            x, rng, weights, lambda new: self._in_chunks(x[new], rng[new], differentiable=False)
        )

    def _in_chunks(self, x: Images, rng: Rng, differentiable: bool) -> Latents:
        images = max(1, self.settings.chunk // self.settings.restarts)
        parts = torch.split(torch.arange(len(x), device=x.device), images)
        with torch.inference_mode(False), torch.set_grad_enabled(differentiable):
            found = [self._chunk(x[part], rng[part], differentiable) for part in parts if len(part)]
        return torch.cat([x.new_empty(0, self.latent), *found])

    def _chunk(self, x: Images, rng: Rng, differentiable: bool) -> Latents:
        steps = self.settings.steps
        unroll = min(self.settings.unroll, steps) if differentiable else 0
        z, before, velocity = self.nearest(x, self.starts(x, rng), unroll)
        if not differentiable:
            return z
        if unroll < steps:
            before, velocity = before.detach(), velocity.detach()
        # Repeat the last steps of the nearest start of each image, with a gradient.
        last, _ = self.descend(x, before, velocity, unroll, graph=True)
        return z.detach() + (last - last.detach())


class LatentCache:
    """Latents by pixels and randomness of the image; a change of the weights empties the cache."""

    def __init__(self, capacity: int = 50_000) -> None:
        self.capacity = capacity
        self.latents: dict[tuple[int, int, str], Tensor] = {}
        self.weights: list[tuple[int, int]] = []

    def __call__(
        self,
        x: Images,
        rng: Rng,
        weights: list[Tensor],
        search: Callable[[Int[Tensor, " new"]], Latents],
    ) -> Latents:
        """The latent of each image.

        Args:
            search: Returns the latents of new images, given their positions in the batch.
        """
        versions = [(weight.data_ptr(), weight._version) for weight in weights]
        if versions != self.weights or len(self.latents) > self.capacity:
            self.latents, self.weights = {}, versions
        pixels = map(digest, x.detach().cpu())
        keys = [(rng.key, *own) for own in zip(rng.ids.tolist(), pixels, strict=True)]
        new = [place for place, key in enumerate(keys) if key not in self.latents]
        found = search(torch.tensor(new, dtype=torch.long, device=x.device))
        self.latents.update((keys[place], z) for place, z in zip(new, found, strict=True))
        return torch.stack([self.latents[key] for key in keys]) if keys else found


def error_gradient(
    generate: Classifier,
    x: Float[Tensor, "n *one c h w"],
    z: AnyLatents,
    graph: bool = False,
) -> AnyLatents:
    """The gradient in ``z`` of the mean squared error of the generated images.

    Args:
        graph: If true, the gradient is itself differentiable in ``x`` and ``z``.
    """
    with torch.enable_grad():
        z = z if z.requires_grad else z.detach().requires_grad_()
        errors = squared_error(generate(z), x)
        (gradient,) = torch.autograd.grad(errors.sum(), z, create_graph=graph)
    return gradient


def squared_error(
    x_hat: Float[Tensor, "*any c h w"], x: Float[Tensor, "*other c h w"]
) -> Float[Tensor, "*any"]:
    """The mean squared error over the pixels of each image."""
    return (x_hat - x).square().flatten(-3).mean(-1)
