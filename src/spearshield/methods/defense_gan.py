"""Defense-GAN: a classifier sees the generator's nearest image in place of the one it is given.

Samangouei, Kabkab, Chellappa, "Defense-GAN: Protecting Classifiers Against Adversarial Attacks
Using Generative Models", 2018. https://arxiv.org/abs/1805.06605

    G  generator   z -> x          trained on clean images alone
    D  critic      image -> score  high for real images, needed for training only
    C  classifier                  as given, or trained on reconstructions
    E  encoder     image -> z      ours, and only where asked for; the layers of D
    z  latent      N(0, I) in training
    L  steps of the search;  R  its restarts

    L_D = mean(D(G(z))) - mean(D(x)) + penalty_weight * mean((|grad D(x_between)| - 1)^2)
    L_G = -mean(D(G(z)))
    L_E = mean((G(E(x + noise)) - x)^2) + latent_weight * mean(E(x + noise)^2)
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
- C learns reconstructions from one fresh start each time, not the nearest of R in one fixed set.
- E is ours. Half the noise that it learns from is chosen against it, by a signed step that knows of
  no classifier. With ``start="encoder"`` the search begins near E(x), so that it can be short:
  another defence, faster, that gives the attacker a smooth path. ``FAST`` ends where it begins,
  since each step from E(x) was seen to bring back some of an attack's noise. Otherwise E changes
  no answer, and only stands in for the search in the attacker's gradient (BPDA). Networks that
  answer in place of such a search: https://arxiv.org/abs/1902.09698, for inverse problems.

The defence was broken by an attack that looks for its images in the range of G: Athalye, Carlini,
Wagner, 2018, https://arxiv.org/abs/1802.00420. The release's white-box attack differentiates a
search whose gradient is zero by construction; ``unroll`` is there so that ours is not.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from spearshield.losses.gan import gradient_penalty, wasserstein
from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen, minimise
from spearshield.nets.latent_projection import (
    LatentSearchSettings,
    Projection,
    squared_error,
)
from spearshield.nets.wgan import Critic, Generator
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.storage.weights import load_part
from spearshield.training.optim import cosine
from spearshield.types import Images, Labels

FAST = LatentSearchSettings(steps=0, restarts=1, start="encoder")
"""The encoder's latent as it is: a search that has become one pass."""


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
        threshold: Mean squared error of x_hat from which on an image is rejected; 1: none is.
        classifier: What is defended: the task's classifier, or a fresh one that has learnt
            reconstructions, or originals and reconstructions.
        gan_steps: Steps that train G and D, where later ones train E or C; 0: all do.
        encoder_steps: Steps behind those that train E; 0: there is none, or that of ``weights``.
        encoder_noise: Largest noise on half of what E learns from, on the [0, 1] pixel scale.
        encoder_eps: The same on the other half, where a signed step makes it hard for E.
        latent_weight: Weight of the latents' size in E's loss, beside pixels.
        weights: A file with G's weights, in place of ``gan_steps``: the weights or the checkpoint
            that a run has left for this method. E is taken from it as well, unless it is trained.

    Raises:
        ValueError: A number is out of its range, or there is an E or C without steps to train it,
            or a search that begins at an E that there is not.
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
    encoder_steps: int = 0
    encoder_noise: float = 0.6
    encoder_eps: float = 0.4
    latent_weight: float = 0.001
    weights: str = ""

    def __post_init__(self) -> None:
        require(self, "width", "latent", "critic_steps", at_least=1)
        require(self, "penalty_weight", "lr", "decay_steps", "gan_steps", at_least=0)
        require(self, "encoder_steps", "encoder_noise", "encoder_eps", at_least=0)
        require(self, "latent_weight", at_least=0)
        if not self.threshold > 0:
            raise ValueError(f"threshold must be positive, got {self.threshold}")
        later = self.classifier != "given" or self.encoder_steps > 0
        if (self.gan_steps > 0) != (later and not self.weights):
            raise ValueError(
                "gan_steps are the steps before those of an encoder or a classifier, where no "
                f"weights are given; got gan_steps={self.gan_steps}, classifier="
                f"{self.classifier!r}, encoder_steps={self.encoder_steps}, weights={self.weights!r}"
            )
        if self.search.start == "encoder" and not self.encoder_steps and not self.weights:
            raise ValueError("search.start='encoder' needs encoder_steps > 0, or weights of one")

    def learner(self, task: Task) -> DefenseGANLearner:
        return DefenseGANLearner(self, task)


class DefenseGANLearner(Learner):
    taken: torch.Tensor

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
        if method.encoder_steps:
            self.E = Critic(task.shape, method.width, method.latent)
            self.opt_e = torch.optim.Adam(self.E.parameters(), 1e-3)
        if method.classifier != "given":
            self.C = copy.deepcopy(task.untrained)
            self.opt_c = torch.optim.Adam(self.C.parameters(), 1e-3)
        self.register_buffer("taken", torch.tensor(0))

    def _load(self, path: Path) -> None:
        """G from a file, and E where it is there and not trained."""
        method = self.method
        if not load_part(self.G, "G", path):
            raise ValueError(f"{path} holds no G; give a checkpoint or weights of this method")
        encoder = Critic(self.task.shape, method.width, method.latent)
        if not method.encoder_steps and load_part(encoder, "E", path):
            self.E = encoder
        elif not method.encoder_steps and method.search.start == "encoder":
            raise ValueError(f"{path} holds no E to start from; train one by encoder_steps > 0")

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, taken = self.method, int(self.taken)
        self.taken += 1
        if not method.weights and (taken < method.gan_steps or not method.gan_steps):
            return self.step_gan(x, taken, rng)
        taken -= method.gan_steps
        if taken < method.encoder_steps:
            return self.step_encoder(x, taken, rng)
        if method.classifier != "given":
            return self.step_classifier(x, y, rng)
        raise ValueError(
            "nothing is left to train: G is given or trained, and so is E; this training takes "
            f"steps={method.gan_steps + method.encoder_steps}"
        )

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

    def step_encoder(self, x: Images, taken: int, rng: Rng) -> Mapping[str, float]:
        """Update E: real images come back through G, without the noise."""
        method, G, E = self.method, frozen(self.G), self.E
        assert E is not None
        self.opt_e.param_groups[0]["lr"] = cosine(1e-3, taken, method.encoder_steps)
        half = len(x) // 2
        misleading = self.misleading(x[:half], rng[:half].fold(4))
        z = E(torch.cat([misleading, noisy(x[half:], method.encoder_noise, rng[half:])]))
        pixels, latents = squared_error(G(z), x).mean(), z.square().mean()
        minimise(self.opt_e, pixels + method.latent_weight * latents)
        return {"pixels": pixels.item(), "latents": latents.item()}

    def misleading(self, x: Images, rng: Rng) -> Images:
        """Images with noise that E errs on: a signed step up its error, from a random start."""
        assert self.E is not None
        most = self.method.encoder_eps * rng.fold(0).uniform((1, 1, 1))
        start = x + most / 2 * rng.fold(1).normal(x.shape[1:]).sign()
        start = start.clamp(0, 1).requires_grad_()
        error = squared_error(frozen(self.G)(frozen(self.E)(start)), x).sum()
        (slope,) = torch.autograd.grad(error, start)
        shown = start.detach() + most * slope.sign()
        return torch.clamp(shown, x - most, x + most).clamp(0, 1)

    def step_classifier(self, x: Images, y: Labels, rng: Rng) -> Mapping[str, float]:
        """Update C on what it will be shown."""
        x_hat = self.projection(restarts=1).purify(x, rng)
        if self.method.classifier == "both":
            x_hat, y = torch.cat([x, x_hat]), torch.cat([y, y])
        loss = cross_entropy(self.C.train()(x_hat), y)
        minimise(self.opt_c, loss)
        return {"cross_entropy": loss.item()}

    def projection(self, **changes: int) -> Projection:
        """The search in the range of G as it is now, or one with some settings changed."""
        search = replace(self.method.search, **changes)  # type: ignore[arg-type]
        return Projection(self.G, self.method.latent, search, self.E, self.method.threshold)

    def outcome(self) -> Outcome:
        own = self.method.classifier != "given"
        classifier = self.C.eval() if own else self.task.classifier
        return Outcome(classifier, purifier=self.projection().eval())


def noisy(x: Images, most: float, rng: Rng) -> Images:
    """Images with noise of one strength each, up to ``most``, in patches 1, 2 or 4 pixels wide."""
    count, channels, *size = x.shape
    patches = [
        interpolate(
            rng.fold(width).normal((channels, *(-(-side // width) for side in size))),
            size=tuple(size),
            mode="bilinear",
        ).sign()
        for width in (1, 2, 4)
    ]
    kind = rng.fold(0).integers((1,), len(patches))[:, 0]
    noise = torch.stack(patches)[kind, torch.arange(count)]
    return (x + most * rng.fold(3).uniform((1, 1, 1)) * noise).clamp(0, 1)
