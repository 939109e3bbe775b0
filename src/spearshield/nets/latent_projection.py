"""The image of a generator that is nearest to each image, by gradient descent on its latent.

The search of Defense-GAN (:mod:`spearshield.methods.defense_gan`) by default. What makes it faster
is ours, is off until asked for, and makes another defence of it: an encoder that says where to
start, restarts that leave when they fall behind, images that leave when they get no nearer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spearshield.method import RandomPurifier, frozen
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Mask, PerImage

Latents = Float[Tensor, "n latent"]
Starts = Float[Tensor, "n restarts latent"]
Path = Float[Tensor, "n restarts past 2 latent"]


@dataclass(frozen=True)
class LatentSearchSettings:
    """The search for the latent of an image: gradient descent with momentum from several starts.

    Args:
        steps: L, steps of each descent.
        restarts: R, descents for each image; the one that ends nearest counts.
        lr: Learning rate, for the mean over pixels of the squared error.
        momentum: Share of the last move that is kept, in [0, 1).
        z_std: Standard deviation of the starts.
        unroll: Last steps that the answer is differentiable through, and through the encoder
            where these are all; 0: it has no gradient.
        chunk: Latents moved at a time; changes speed and memory, not results.
        start: Starts are drawn around zero, or around the encoder's latent, which is the first.
        drop: Steps after which half of an image's restarts leave, the farther ones, again and
            again until one is left; 0: all stay.
        patience: Steps after which an image leaves if none of its restarts has come nearer, by
            ``tolerance``, than these steps before; 0: all take all steps.
        tolerance: The share of its squared error by which an image comes nearer at least.

    Raises:
        ValueError: A number is out of its range.
    """

    steps: int = 200
    restarts: int = 10
    lr: float = 10.0
    momentum: float = 0.7
    z_std: float = 128**-0.5
    unroll: int = 10
    chunk: int = 500
    start: Literal["random", "encoder"] = "random"
    drop: int = 0
    patience: int = 0
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        require(
            self,
            "steps",
            "momentum",
            "z_std",
            "unroll",
            "drop",
            "patience",
            "tolerance",
            at_least=0,
        )
        require(self, "restarts", "chunk", at_least=1)
        if not self.lr > 0 or not self.momentum < 1 or not self.tolerance < 1:
            raise ValueError(
                "lr must be positive, momentum and tolerance below 1, "
                f"got {self.lr}, {self.momentum} and {self.tolerance}"
            )


class Projection(RandomPurifier):
    """The image of G nearest to each image, as far as gradient descent finds it.

    An image's answer does not depend on others. In another batch it is the same to rounding, which
    may differ between kernels for few and for many images. Latents that were found are kept, for
    whoever asks again.

    Args:
        generator: Maps latents to images; it and its weights are left alone.
        latent: Numbers in one latent.
        encoder: Maps images to latents; left alone too.
        threshold: Mean squared error from which on an image is rejected.

    Raises:
        ValueError: The search starts at an encoder's latent, and there is none.
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
        if settings.start == "encoder" and encoder is None:
            raise ValueError("start='encoder' needs an encoder; give one, or start='random'")
        self.G = generator
        self.E = encoder
        self.latent = latent
        self.settings = settings
        self.threshold = threshold
        self._cache = LatentCache()

    @property
    def differentiable_approximation(self) -> Classifier:
        """G(E(x)): differentiable, and much as the projection of ``x``.

        Raises:
            AttributeError: There is no encoder, so this is not offered.
        """
        if self.E is None:
            raise AttributeError("differentiable_approximation")
        generator, encoder = frozen(self.G), frozen(self.E)
        return lambda x: generator(encoder(x))

    def purify(self, x: Images, rng: Rng) -> Images:
        return self._search(x, rng)[1]

    def detection_score(self, x: Images) -> PerImage:
        """The share by which each image's squared error is above the threshold."""
        _, error = self.search(x, Rng.of_content(self.seed, x).fold(0))
        return error / self.threshold - 1

    def search(self, x: Images, rng: Rng) -> tuple[Latents, PerImage]:
        """The latent of each image and its mean squared error, by which attacks are detected.

        Where gradients are on and asked for, both are differentiable in ``x`` through the last
        ``unroll`` steps: exactly those steps, as if the latent before them did not depend on it.
        """
        z, x_hat = self._search(x, rng)
        return z, squared_error(x_hat, x)

    def _search(self, x: Images, rng: Rng) -> tuple[Latents, Images]:
        """The latent of each image, and G's image of it."""
        unroll = self.settings.unroll if torch.is_grad_enabled() and x.requires_grad else 0
        if unroll:
            z = self._latents(x, rng, unroll)
        else:
            weights = [*self.G.parameters(), *(self.E.parameters() if self.E else ())]
            z = self._cache(x, rng, weights, lambda new: self._latents(x[new], rng[new], 0))
        return z, frozen(self.G)(z)

    def _latents(self, x: Images, rng: Rng, unroll: int) -> Latents:
        images = max(1, self.settings.chunk // self.settings.restarts)
        parts = zip(torch.split(x, images), torch.split(rng.ids, images), strict=True)
        found = [
            self._search_chunk(part, Rng(rng.key, ids), unroll) for part, ids in parts if len(part)
        ]
        return torch.cat([x.new_empty(0, self.latent), *found])

    def _search_chunk(self, x: Images, rng: Rng, unroll: int) -> Latents:
        generator = frozen(self.G)
        with torch.inference_mode(False), torch.no_grad():
            groups = [
                group.best(generator, x[group.places])
                for group in self._descend(x, self._starts(x, rng), unroll)
            ]
        found = [
            self._replay(x[group.places], group) if unroll else group.z[:, 0] for group in groups
        ]
        return torch.cat(found)[torch.cat([group.places for group in groups]).argsort()]

    def _starts(self, x: Images, rng: Rng) -> Starts:
        starts = self.settings.z_std * rng.normal((self.settings.restarts, self.latent)).to(x)
        if self.settings.start == "random" or self.E is None:
            return starts
        starts[:, 0] = 0
        return frozen(self.E)(x)[:, None] + starts

    def _descend(self, x: Images, starts: Starts, unroll: int) -> Iterator[SearchState]:
        """Where the descents end, of all images or of some, in the order in which they leave.

        Who leaves is decided by the errors before the last step, which cost nothing.
        """
        settings, generator, group = self.settings, frozen(self.G), SearchState.of(starts)
        for step in range(1, settings.steps + 1):
            errors, slope = loss_and_gradient(generator, x[group.places, None], group.z)
            group = group.move(settings, slope, unroll)
            if settings.drop and step % settings.drop == 0:
                errors, nearer = errors.topk((errors.shape[1] + 1) // 2, largest=False)
                group = group.restarts(nearer)
            if settings.patience and step % settings.patience == 0:
                nearest = errors.amin(1)
                stays = nearest <= (1 - settings.tolerance) * group.nearest
                if not stays.all():
                    yield group[~stays]
                if not stays.any():
                    return
                group = replace(group, nearest=nearest)[stays]
        yield group

    def _replay(self, x: Images, group: SearchState) -> Latents:
        """Where one descent for each image ended, with the gradient of its last steps."""
        generator, (z, velocity) = frozen(self.G), group.path[:, 0, 0].unbind(1)
        steps = group.path.shape[2] - 1
        if self.settings.start == "encoder" and self.E is not None and steps == group.taken:
            encoded = frozen(self.E)(x)
            z = z + (encoded - encoded.detach())
        for _ in range(steps):
            _, slope = loss_and_gradient(generator, x, z, graph=True)
            velocity = self.settings.momentum * velocity + slope
            z = z - self.settings.lr * velocity
        return group.z[:, 0] + (z - z.detach())


@dataclass(frozen=True, eq=False)
class SearchState:
    """Descents under way, as many for each image.

    Args:
        places: Where the images stand in their batch.
        path: Latent and velocity before each of the last steps, and now.
        nearest: The images' errors when their progress was last looked at.
        taken: Steps so far.
    """

    places: Int[Tensor, "n"]
    path: Path
    nearest: PerImage
    taken: int = 0

    @staticmethod
    def of(starts: Starts) -> SearchState:
        places = torch.arange(len(starts), device=starts.device)
        path = torch.stack([starts, torch.zeros_like(starts)], 2)[:, :, None]
        return SearchState(places, path, starts.new_full((len(starts),), math.inf))

    @property
    def z(self) -> Starts:
        return self.path[:, :, -1, 0]

    def move(self, settings: LatentSearchSettings, slope: Starts, unroll: int) -> SearchState:
        """One step on, with the states before the last ``unroll`` steps."""
        velocity = settings.momentum * self.path[:, :, -1, 1] + slope
        now = torch.stack([self.z - settings.lr * velocity, velocity], 2)[:, :, None]
        path = torch.cat([self.path, now], 2)[:, :, -unroll - 1 :]
        return replace(self, path=path, taken=self.taken + 1)

    def restarts(self, index: Int[Tensor, "n some"]) -> SearchState:
        """Some of each image's descents."""
        return replace(self, path=self.path[torch.arange(len(index))[:, None], index])

    def best(self, generator: Classifier, x: Images) -> SearchState:
        """The descent of each image that is nearest to it now."""
        if self.path.shape[1] == 1:
            return self
        errors = squared_error(generate(generator, self.z), x[:, None])
        return self.restarts(errors.argmin(1, keepdim=True))

    def __getitem__(self, index: Mask) -> SearchState:
        """The descents of some of the images."""
        return SearchState(self.places[index], self.path[index], self.nearest[index], self.taken)


class LatentCache:
    """Latents that were found before, so that a victim that is asked again need not search again.

    A latent is a function of the image's pixels, its randomness and the weights; new weights make
    all of them unknown.
    """

    def __init__(self, most: int = 50_000) -> None:
        self.most = most
        self.latents: dict[tuple[int, int, bytes], Tensor] = {}
        self.weights: list[tuple[int, int]] = []

    def __call__(
        self,
        x: Images,
        rng: Rng,
        weights: list[nn.Parameter],
        find: Callable[[Int[Tensor, "new"]], Latents],
    ) -> Latents:
        """The latent of each image; ``find`` is asked for those of the new ones, by place."""
        versions = [(weight.data_ptr(), weight._version) for weight in weights]
        if versions != self.weights or len(self.latents) > self.most:
            self.latents, self.weights = {}, versions
        pixels = [hashlib.sha1(image.tobytes()).digest() for image in x.detach().cpu().numpy()]
        keys = [(rng.key, *own) for own in zip(rng.ids.tolist(), pixels, strict=True)]
        new = [place for place, key in enumerate(keys) if key not in self.latents]
        found = find(torch.tensor(new, dtype=torch.long, device=x.device))
        self.latents.update((keys[place], z) for place, z in zip(new, found, strict=True))
        return torch.stack([self.latents[key] for key in keys]) if keys else found


def loss_and_gradient(
    generator: Classifier,
    x: Float[Tensor, "n *one c h w"],
    z: Float[Tensor, "n *restarts latent"],
    graph: bool = False,
) -> tuple[Float[Tensor, "n *restarts"], Float[Tensor, "n *restarts latent"]]:
    """The squared error of each latent's image and its gradient.

    Args:
        graph: The gradient is itself differentiable, in ``x`` and ``z``.
    """
    with torch.enable_grad():
        z = z if z.requires_grad else z.detach().requires_grad_()
        errors = squared_error(generate(generator, z), x)
        (slope,) = torch.autograd.grad(errors.sum(), z, create_graph=graph)
    return errors.detach(), slope


def generate(generator: Classifier, z: Float[Tensor, "n *restarts latent"]) -> Tensor:
    x_hat = generator(z.flatten(0, -2))
    return x_hat.reshape(*z.shape[:-1], *x_hat.shape[1:])


def squared_error(
    x_hat: Float[Tensor, "*any c h w"], x: Float[Tensor, "*other c h w"]
) -> Float[Tensor, "*any"]:
    """The mean over an image's pixels."""
    return (x_hat - x).square().flatten(-3).mean(-1)
