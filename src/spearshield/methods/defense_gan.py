"""Defense-GAN: a classifier receives the nearest generated image in place of its input.

Samangouei, Kabkab, Chellappa, "Defense-GAN: Protecting Classifiers Against Adversarial Attacks
Using Generative Models", 2018. https://arxiv.org/abs/1805.06605

    G  generator   z -> x          trained on clean images only
    D  critic      image -> score  high for clean images, used in training only
    C  classifier                  the given one, or one trained on reconstructions
    z  latent      N(0, I) in training
    L  steps of the search;  R  its restarts

    L_D = mean(D(G(z))) - mean(D(x)) + penalty_weight * mean((|grad D(x_between)| - 1)^2)
    L_G = -mean(D(G(z)))
    x_hat = G(z*),  z* = argmin over R starts of |G(z) - x|^2 after L steps of gradient descent

Differences from the paper. Networks and settings are those of the authors' release,
https://github.com/kabkabm/defensegan, which differs from the code behind the paper's tables.

- The penalty uses the norm of the gradient over a whole image; the release takes one norm for each
  column of pixels.
- The learning rate of the search is constant; so it is in the release, whose decay never starts.
- The search starts near zero (standard deviation 0.088), as in the release. The paper's N(0, I) is
  ``z_std=1``. Its loss is the mean over pixels, summed over images, so images do not interact.
- x_hat is the image after the last step of the search; in the release it may be one step older.
- A training step updates D, and every ``critic_steps``-th step also updates G: the release's
  200,000 iterations are 1,000,000 steps here. ``decay_steps`` is new, for shorter trainings.
- Above 32 pixels, a rectifier precedes the last deconvolution as it precedes the others; D has one
  output for its 8x8 maps, where the release has four; and pixels are in [0, 1], not [-1, 1], so
  that the learning rate of the release's search is ``lr=40`` here.
- C is trained on reconstructions from one new start each, not on the nearest of R in a fixed set.

The defence was broken by an attack that searches the range of G: Athalye, Carlini, Wagner, 2018,
https://arxiv.org/abs/1802.00420. The release's white-box attack differentiates a search whose
gradient is zero by construction. Here the last ``unroll`` steps of the search are differentiable.
For BPDA, an encoder from the file of weights gives a differentiable approximation, G(E(x)); it does
not change the output. :mod:`spearshield.methods.encoder_projection` trains one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spearshield.losses.gan import gradient_penalty, wasserstein
from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen
from spearshield.nets.latent_projection import (
    AnyLatents,
    LatentProjection,
    Latents,
    LatentSearchSettings,
    error_gradient,
    squared_error,
)
from spearshield.nets.wgan import Critic, Generator
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.storage.weights import load_part
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class DefenseGAN(Method):
    """Hyper-parameters of Defense-GAN, with the defaults of the authors' release.

    Args:
        width: Channels of the largest maps; deeper ones have two and four times as many.
        latent: Dimension of z.
        critic_steps: Updates of D for each update of G.
        penalty_weight: Weight of the gradient penalty.
        lr: Learning rate of the Adam optimisers of G and D.
        decay_steps: Steps over which it falls to zero along a half cosine; 0: it is constant.
        search: The search for z*.
        threshold: Mean squared error of x_hat above which an image is rejected; 1: none is.
        classifier: The defended classifier: the given one, or a fresh one trained on
            reconstructions, or on both originals and reconstructions.
        gan_steps: Steps that train G and D, before those that train C; 0 if no C is trained.
        weights: A file with the weights of G, which is then not trained: ``weights.safetensors`` or
            the checkpoint of a run of this method or of ``encoder_projection``. An E in the file is
            used for the differentiable approximation.

    Raises:
        ValueError: A number is out of range, or ``gan_steps`` does not agree with ``classifier``
            and ``weights``.
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
    search: LatentSearchSettings = LatentSearchSettings()  # noqa: RUF009 - a frozen value
    threshold: float = 1.0
    classifier: Literal["given", "reconstructions", "both"] = "given"
    gan_steps: int = 0
    weights: str = ""

    def __post_init__(self) -> None:
        require(self, "width", "latent", "critic_steps", at_least=1)
        require(self, "penalty_weight", "lr", "decay_steps", "gan_steps", at_least=0)
        require(self, "threshold", above=0)
        if (self.gan_steps > 0) != (self.classifier != "given" and not self.weights):
            raise ValueError(
                "gan_steps are the steps before those of a classifier, if no weights are given; "
                f"got gan_steps={self.gan_steps}, classifier={self.classifier!r}, "
                f"weights={self.weights!r}"
            )

    def learner(self, task: Task) -> DefenseGANLearner:
        return DefenseGANLearner(self, task)


class Reconstructor(LatentProjection):
    """G(z*), z* = argmin over R starts of |G(z) - x|^2 after L steps of gradient descent."""

    def starts(self, x: Images, rng: Rng) -> Float[Tensor, "n restarts latent"]:
        return self.settings.z_std * rng.normal((self.settings.restarts, self.latent)).to(x)

    def nearest(
        self, x: Images, z: Float[Tensor, "n restarts latent"], unroll: int
    ) -> tuple[Latents, Latents, Latents]:
        before = self.descend(x, z, torch.zeros_like(z), self.settings.steps - unroll)
        z, _ = self.descend(x, *before, unroll)
        best = squared_error(self.generate(z), x[:, None]).argmin(1)
        image = torch.arange(len(x), device=x.device)
        return z[image, best], before[0][image, best], before[1][image, best]

    def descend(
        self, x: Images, z: AnyLatents, velocity: AnyLatents, steps: int, graph: bool = False
    ) -> tuple[AnyLatents, AnyLatents]:
        x = x[:, None] if z.dim() == 3 else x
        for _ in range(steps):
            gradient = error_gradient(self.generate, x, z, graph)
            velocity = self.settings.momentum * velocity + gradient
            z = z - self.settings.lr * velocity
        return z, velocity


class DefenseGANLearner(Learner):
    taken: Tensor

    def __init__(self, method: DefenseGAN, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        self.G = Generator(task.shape, method.width, method.latent)
        self.E: nn.Module | None = None
        if method.weights:
            self._load(Path(method.weights))
        else:
            self.D = Critic(task.shape, method.width)
            self.opt_g = torch.optim.Adam(self.G.parameters(), method.lr, betas=(0.5, 0.9))
            self.opt_d = torch.optim.Adam(self.D.parameters(), method.lr, betas=(0.5, 0.9))
        if method.classifier != "given":
            self.C = copy.deepcopy(task.untrained)
            self.opt_c = torch.optim.Adam(self.C.parameters(), 1e-3)
        self.register_buffer("taken", torch.tensor(0))

    def _load(self, path: Path) -> None:
        """Load G from a file, and E if the file has one."""
        if not load_part(self.G, "G", path):
            raise ValueError(
                f"{path} holds no G; give a checkpoint or weights of defense_gan or "
                "encoder_projection"
            )
        encoder = Critic(self.task.shape, self.method.width, self.method.latent)
        if load_part(encoder, "E", path):
            self.E = encoder

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, taken = self.method, int(self.taken)
        self.taken += 1
        if not method.weights and (taken < method.gan_steps or not method.gan_steps):
            return self.step_gan(x, taken, rng)
        if method.classifier != "given":
            return self.step_classifier(x, y, rng)
        raise ValueError("there is nothing to train, because G is given: set steps=0")

    def step_gan(self, x: Images, taken: int, rng: Rng) -> Mapping[str, float]:
        """Update D, and G at every ``critic_steps``-th step."""
        method = self.method
        set_lr(cosine(method.lr, taken, method.decay_steps), self.opt_g, self.opt_d)
        losses = self.update_critic(x, rng)
        if (taken + 1) % method.critic_steps == 0:
            losses |= self.update_generator(rng)
        return {name: loss.item() for name, loss in losses.items()}

    def update_critic(self, x: Images, rng: Rng) -> dict[str, Tensor]:
        """Update D: high scores for clean images, low ones for G(z), a gradient of norm 1."""
        method, G, D = self.method, self.G, self.D
        with torch.no_grad():
            fake = G(rng.fold(0).normal((method.latent,)))
        distance = wasserstein(D(x), D(fake))
        penalty = gradient_penalty(D, x, fake, rng.fold(1))
        minimise(self.opt_d, -distance + method.penalty_weight * penalty)
        return {"distance": distance.detach(), "penalty": penalty.detach()}

    def update_generator(self, rng: Rng) -> dict[str, Tensor]:
        """Update G: high scores for G(z)."""
        G, D = self.G, frozen(self.D)
        loss_g = -D(G(rng.fold(2).normal((self.method.latent,)))).mean()
        minimise(self.opt_g, loss_g)
        return {"g": loss_g.detach()}

    def step_classifier(self, x: Images, y: Labels, rng: Rng) -> Mapping[str, float]:
        """Update C on reconstructions, or on originals and reconstructions."""
        x_hat = self.projection(restarts=1).purify(x, rng)
        if self.method.classifier == "both":
            x_hat, y = torch.cat([x, x_hat]), torch.cat([y, y])
        loss = cross_entropy(self.C.train()(x_hat), y)
        minimise(self.opt_c, loss)
        return {"cross_entropy": loss.item()}

    def projection(self, **changes: int) -> Reconstructor:
        """The search in the range of G, with some of its settings changed."""
        search = replace(self.method.search, **changes)
        return Reconstructor(self.G, self.method.latent, search, self.E, self.method.threshold)

    def outcome(self) -> Outcome:
        trained = self.method.classifier != "given"
        classifier = self.C.eval() if trained else self.task.classifier
        return Outcome(classifier, purifier=self.projection().eval())
