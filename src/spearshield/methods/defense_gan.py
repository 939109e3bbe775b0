"""Defense-GAN: a classifier sees the generator's nearest image in place of the one it is given.

Samangouei, Kabkab, Chellappa, "Defense-GAN: Protecting Classifiers Against Adversarial Attacks
Using Generative Models", 2018. https://arxiv.org/abs/1805.06605

    G  generator   z -> x          trained on clean images alone
    D  critic      image -> score  high for real images, needed for training only
    C  classifier                  as given, or trained on reconstructions
    z  latent      N(0, I) in training
    L  steps of the search;  R  its restarts

    L_D = mean(D(G(z))) - mean(D(x)) + penalty_weight * mean((|grad D(x_between)| - 1)^2)
    L_G = -mean(D(G(z)))
    x_hat = G(z*),  z* = argmin over R starts of |G(z) - x|^2 after L steps of gradient descent

Differences from the paper. Networks and settings are those of the authors' release,
https://github.com/kabkabm/defensegan, which differs from the code behind the paper's tables.

- The penalty takes the norm over a whole image; the release takes one for each column of pixels.
- The learning rate of the search stays; so it does in the release, whose decay never fires.
- The search starts near zero (a deviation of 0.088), as in the release, not from N(0, I), which is
  ``z_std=1``. Its loss is the mean over pixels, summed over images, so that they do not interact.
- x_hat is taken behind the last step of the search, where the release may be a step late.
- A step updates D, and each ``critic_steps``-th one G as well: the release's 200,000 iterations are
  1,000,000 steps here. ``decay_steps`` is ours, for runs that are shorter.
- Above 32 pixels, a rectifier stands before the last deconvolution as before the others; D makes
  one number of its 8x8 maps, where the release makes four; and pixels are in [0, 1], not [-1, 1],
  so that the release's search is ``lr=40`` here.
- C learns reconstructions from fresh starts each time, not one fixed set of them.

The defence was broken by an attack that looks for its images in the range of G: Athalye, Carlini,
Wagner, 2018, https://arxiv.org/abs/1802.00420. The release's white-box attack differentiates a
search whose gradient is zero by construction; ``unroll`` is there so that ours is not.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spearshield.gan import gradient_penalty, wasserstein
from spearshield.method import (
    Learner,
    Method,
    Outcome,
    Paper,
    RandomPurifier,
    Task,
    frozen,
    minimise,
)
from spearshield.rng import Rng
from spearshield.schedule import cosine
from spearshield.types import Classifier, Images, Labels, Logits, PerImage, Shape

Latents = Float[Tensor, "n latent"]


def _at_least(value: object, least: int, *names: str) -> None:
    for name in names:
        if not getattr(value, name) >= least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(value, name)}")


@dataclass(frozen=True)
class Descent:
    """The search for the latent of an image: gradient descent with momentum from random starts.

    Args:
        steps: L, steps of each descent.
        restarts: R, descents for each image; the one that ends nearest counts.
        lr: Learning rate, for the mean over pixels of the squared error.
        momentum: Share of the last move that is kept, in [0, 1).
        z_std: Standard deviation of the starts.
        unroll: Last steps that the answer is differentiable through; 0: it has no gradient.
        chunk: Latents moved at a time; changes speed and memory, not results.

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

    def __post_init__(self) -> None:
        _at_least(self, 0, "steps", "momentum", "z_std", "unroll")
        _at_least(self, 1, "restarts", "chunk")
        if not self.lr > 0 or not self.momentum < 1:
            raise ValueError(
                f"lr must be positive and momentum below 1, got {self.lr} and {self.momentum}"
            )


@dataclass(frozen=True)
class DefenseGAN(Method):
    """Hyper-parameters of Defense-GAN, with the defaults of the authors' release.

    Args:
        width: Channels of the largest maps; deeper ones have two and four times as many.
        latent: Numbers in z.
        critic_steps: Updates of D for each update of G.
        penalty_weight: Weight of the gradient penalty.
        lr: Learning rate of both Adams.
        decay_steps: Steps over which it falls to zero along a half cosine; 0: it stays.
        descent: The search for z.
        classifier: What is defended: the task's classifier, or a fresh one that has learnt
            reconstructions, or originals and reconstructions.
        gan_steps: Steps that train G and D; later ones train C. 0: all train G and D.

    Raises:
        ValueError: A number is out of its range, or there is a C without steps to train it.
    """

    paper = Paper(
        "Defense-GAN: Protecting Classifiers Against Adversarial Attacks Using Generative Models",
        "Samangouei, Pouya and Kabkab, Maya and Chellappa, Rama",
        2018,
        "https://arxiv.org/abs/1805.06605",
    )

    width: int = 64
    latent: int = 128
    critic_steps: int = 5
    penalty_weight: float = 10.0
    lr: float = 1e-4
    decay_steps: int = 0
    descent: Descent = Descent()
    classifier: Literal["given", "reconstructions", "both"] = "given"
    gan_steps: int = 0

    def __post_init__(self) -> None:
        _at_least(self, 1, "width", "latent", "critic_steps")
        _at_least(self, 0, "penalty_weight", "lr", "decay_steps", "gan_steps")
        if (self.classifier == "given") != (self.gan_steps == 0):
            raise ValueError(
                "a classifier is trained after gan_steps, so it takes classifier='reconstructions' "
                f"or 'both' and gan_steps > 0, got {self.classifier!r} and {self.gan_steps}"
            )

    def learner(self, task: Task) -> DefenseGANLearner:
        return DefenseGANLearner(self, task)


class DefenseGANLearner(Learner):
    taken: torch.Tensor

    def __init__(self, method: DefenseGAN, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        self.G = Generator(task.shape, method.width, method.latent)
        self.D = Critic(task.shape, method.width)
        self.opt_g = torch.optim.Adam(self.G.parameters(), method.lr, betas=(0.5, 0.9))
        self.opt_d = torch.optim.Adam(self.D.parameters(), method.lr, betas=(0.5, 0.9))
        if method.gan_steps:
            self.C = copy.deepcopy(task.untrained)
            self.opt_c = torch.optim.Adam(self.C.parameters(), 1e-3)
        self.register_buffer("taken", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        taken, gan_steps = int(self.taken), self.method.gan_steps
        self.taken += 1
        if gan_steps and taken >= gan_steps:
            return self.step_classifier(x, y, rng)
        return self.step_gan(x, taken, rng)

    def step_gan(self, x: Images, taken: int, rng: Rng) -> Mapping[str, float]:
        """Update D, and G where it is its turn."""
        method, G, D = self.method, self.G, self.D
        for optimiser in (self.opt_g, self.opt_d):
            optimiser.param_groups[0]["lr"] = cosine(method.lr, taken, method.decay_steps)

        # D: real images up, generated ones down, its slope between them to 1.
        with torch.no_grad():
            fake = G(rng.fold(0).normal((method.latent,)))
        distance = wasserstein(D(x), D(fake))
        penalty = gradient_penalty(D, x, fake, rng.fold(1))
        minimise(self.opt_d, -distance + method.penalty_weight * penalty)
        losses = {"distance": distance.item(), "penalty": penalty.item()}

        # G, less often: generated images up.
        if (taken + 1) % method.critic_steps == 0:
            loss_g = -frozen(D)(G(rng.fold(2).normal((method.latent,)))).mean()
            minimise(self.opt_g, loss_g)
            losses["g"] = loss_g.item()
        return losses

    def step_classifier(self, x: Images, y: Labels, rng: Rng) -> Mapping[str, float]:
        """Update C on what it will be shown."""
        x_hat = self.projection.purify(x, rng)
        if self.method.classifier == "both":
            x_hat, y = torch.cat([x, x_hat]), torch.cat([y, y])
        loss = cross_entropy(self.C.train()(x_hat), y)
        minimise(self.opt_c, loss)
        return {"cross_entropy": loss.item()}

    @property
    def projection(self) -> Projection:
        """The search in the range of G as it is now."""
        return Projection(self.G, self.method.latent, self.method.descent)

    def outcome(self) -> Outcome:
        classifier = self.C.eval() if self.method.gan_steps else self.task.classifier
        return Outcome(classifier, purifier=self.projection.eval())


class Projection(RandomPurifier):
    """The image of G nearest to each image, as far as gradient descent finds it.

    An image's answer does not depend on others. In another batch it is the same to rounding, which
    may differ between kernels for few and for many images.

    Args:
        G: Maps latents to images; it and its weights are left alone.
        latent: Numbers in one latent.
    """

    def __init__(self, G: nn.Module, latent: int, descent: Descent, seed: int = 0) -> None:
        super().__init__(seed)
        self.G = G
        self.latent = latent
        self.descent = descent

    def purify(self, x: Images, rng: Rng) -> Images:
        return frozen(self.G)(self.search(x, rng)[0])

    def search(self, x: Images, rng: Rng) -> tuple[Latents, PerImage]:
        """The latent of each image and its mean squared error, by which attacks are detected.

        Where gradients are on and asked for, both are differentiable in ``x`` through the last
        ``unroll`` steps: exactly those steps, as if the latent before them did not depend on it.
        """
        images = max(1, self.descent.chunk // self.descent.restarts)
        parts = zip(torch.split(x, images), torch.split(rng.ids, images), strict=True)
        found = [self._search(part, Rng(rng.key, ids)) for part, ids in parts]
        z, errors = (torch.cat(column) for column in zip(*found, strict=True))
        return z, errors

    def _search(self, x: Images, rng: Rng) -> tuple[Latents, PerImage]:
        G, R, steps = frozen(self.G), self.descent.restarts, self.descent.steps
        tracked = torch.is_grad_enabled() and x.requires_grad
        last = min(self.descent.unroll, steps) if tracked else 0

        # All restarts of an image stand one behind the other.
        with torch.inference_mode(False), torch.no_grad():
            goal = x.repeat_interleave(R, 0)
            z = (self.descent.z_std * rng.normal((R, self.latent))).flatten(0, 1).to(x)
            before = self._descend(G, goal, z, torch.zeros_like(z), steps - last)
            z, _ = self._descend(G, goal, *before, last)
            errors = squared_error(G(z), goal)
            best = errors.reshape(len(x), R).argmin(1)
            best += R * torch.arange(len(x), device=x.device)
            z, errors = z[best], errors[best]
        if not last:
            return z, errors

        # The last steps once more, for their gradient; the numbers stay those found above.
        again, _ = self._descend(G, x, before[0][best], before[1][best], last, graph=True)
        z = z + (again - again.detach())
        return z, squared_error(G(z), x)

    def _descend(
        self,
        G: Classifier,
        x: Images,
        z: Latents,
        velocity: Latents,
        steps: int,
        graph: bool = False,
    ) -> tuple[Latents, Latents]:
        """Where z is after some steps towards ``x``, and how fast."""
        for _ in range(steps):
            with torch.enable_grad():
                z = z if graph and z.requires_grad else z.detach().requires_grad_()
                error = squared_error(G(z), x).sum()
            (slope,) = torch.autograd.grad(error, z, create_graph=graph)
            velocity = self.descent.momentum * velocity + slope
            z = z - self.descent.lr * velocity
        return z, velocity


class Generator(nn.Module):
    """A linear layer and 5x5 deconvolutions that double the size; images of any size.

    28 pixels come out of 4 by way of 7 and 14. Above 32 pixels there are more deconvolutions, and a
    tanh in place of the sigmoid.
    """

    def __init__(self, shape: Shape, width: int, latent: int) -> None:
        super().__init__()
        channels, *size = shape
        layers = max(3, math.ceil(math.log2(max(size) / 4)))
        widths = [4 * width, 2 * width] + [width] * (layers - 2) + [channels]
        sizes = [tuple(-(-side // 2**i) for side in size) for i in range(layers, -1, -1)]
        self.tanh = layers > 3
        self.linear = nn.Linear(latent, widths[0] * math.prod(sizes[0]))
        self.unflatten = nn.Unflatten(1, (*sizes[0], widths[0]))
        self.deconvs = nn.ModuleList(
            # double a side, or double it less one
            nn.ConvTranspose2d(*ends, 5, 2, 2, tuple((side + 1) % 2 for side in larger))
            for ends, larger in zip(pairwise(widths), sizes[1:], strict=True)
        )
        initialise(self)

    def forward(self, z: Latents) -> Images:
        x: Tensor = self.unflatten(self.linear(z)).permute(0, 3, 1, 2)
        for deconv in self.deconvs:
            x = deconv(x.relu())
        return 0.5 + 0.5 * x.tanh() if self.tanh else x.sigmoid()


class Critic(nn.Module):
    """Three 5x5 convolutions that halve the size, and a linear layer."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        channels, h, w = shape
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 5, 2, 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 5, 2, 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 5, 2, 2),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(4 * width * -(-h // 8) * -(-w // 8), 1),
        )
        initialise(self)

    def forward(self, x: Images) -> Logits:
        logits: Logits = self.body(x)
        return logits


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Uniform initial weights, no biases, as in the release.

    Their variance is 2 over the sum of fan-in and fan-out, twice that in convolutions, where a
    stride of 2 leaves a quarter of the fan on the side with more pixels.
    """
    for values in network.parameters():
        if values.dim() == 1:
            values.zero_()
        else:
            linear = values.dim() == 2
            strided, other = values[:, 0].numel(), values[0].numel()
            fans = strided + other if linear else strided / 4 + other
            bound = math.sqrt(3 * (2 if linear else 4) / fans)
            values.uniform_(-bound, bound)


def squared_error(x_hat: Images, x: Images) -> PerImage:
    """The mean over an image's pixels."""
    return (x_hat - x).square().flatten(1).mean(1)
