"""Encoder projection: a generated image, found by an encoder in one pass, replaces the input.

Raj, Li, Bresler, "GAN-based Projector for Faster Recovery with Convergence Guarantees in Linear
Inverse Problems", 2019. https://arxiv.org/abs/1902.09698

    G  generator  z -> x       of Defense-GAN, trained before or loaded from a file
    E  encoder    image -> z   the layers of Defense-GAN's critic

    L_E   = mean((G(E(x + noise)) - x)^2) + latent_weight * mean(E(x + noise)^2)
    x_hat = G(E(x))

Differences from the paper. There, G(E(x)) is a step of an algorithm for inverse problems. Here it
is a purifier in place of the search of :mod:`spearshield.methods.defense_gan`. It is faster, and
an attacker can use its exact gradient. New here:

- E is trained on real images with noise, not on generated images. Half of them have random noise in
  patches of 1, 2 or 4 pixels; the other half has adversarial noise: one signed step from a random
  start that increases the error of G(E(x)). No classifier takes part in the training.
- The penalty on latents is their mean square, not their distance to given latents.
- ``refine_steps``: Defense-GAN's search with one start, E(x). In our experiments these steps
  restored a part of the perturbation of attacks, so the default is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from spearshield.method import Method, Outcome, Paper, Task, frozen
from spearshield.methods.defense_gan import DefenseGAN, DefenseGANLearner, Reconstructor
from spearshield.nets.latent_projection import Latents, squared_error
from spearshield.nets.wgan import Critic
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.types import Classifier, Images, Labels, PerImage


@dataclass(frozen=True)
class EncoderProjection(Method):
    """Hyper-parameters of the encoder projection.

    Args:
        gan: The settings of G and of its training, or the file that it is loaded from; also the
            threshold of rejection, and the settings of the search of ``refine_steps``.
        gan_steps: Number of first steps, which train G; the others train E. 0 if ``gan.weights`` is
            given.
        encoder_steps: Number of steps that train E, over which its learning rate decays to zero on
            a half cosine; 0: E is loaded from ``gan.weights``.
        lr: Learning rate of the Adam optimiser of E at the start.
        noise: Largest amplitude of the random noise, on the [0, 1] pixel scale.
        adversarial_eps: Largest L-inf norm of the adversarial noise, on the same scale.
        latent_weight: Weight of the mean square of the latents.
        refine_steps: Steps of Defense-GAN's search from E(x).

    Raises:
        ValueError: A number is out of range, or ``gan_steps`` and ``encoder_steps`` do not agree
            with ``gan``.
    """

    paper = Paper(
        "GAN-based Projector for Faster Recovery with Convergence Guarantees in Linear Inverse "
        "Problems",
        "Raj, Ankit and Li, Yuqi and Bresler, Yoram",
        2019,
        "https://arxiv.org/abs/1902.09698",
    )

    gan: DefenseGAN = DefenseGAN()  # noqa: RUF009 - a frozen value
    gan_steps: int = 1_000_000
    encoder_steps: int = 20_000
    lr: float = 1e-3
    noise: float = 0.6
    adversarial_eps: float = 0.4
    latent_weight: float = 0.001
    refine_steps: int = 0

    def __post_init__(self) -> None:
        require(self, "gan_steps", "encoder_steps", "refine_steps", at_least=0)
        require(self, "lr", "noise", "adversarial_eps", "latent_weight", at_least=0)
        if self.gan.classifier != "given":
            raise ValueError(f"gan.classifier must be 'given', got {self.gan.classifier!r}")
        if (self.gan_steps > 0) == bool(self.gan.weights):
            raise ValueError(
                "G is either trained, with gan_steps > 0, or loaded from gan.weights; "
                f"got gan_steps={self.gan_steps} and gan.weights={self.gan.weights!r}"
            )
        if self.encoder_steps == 0 and not self.gan.weights:
            raise ValueError("encoder_steps must be above 0, or gan.weights a file with an E")

    def for_steps(self, steps: int) -> EncoderProjection:
        """The same method for ``steps`` steps: 7 of 10 train G, unless it is loaded, the rest E."""
        gan_steps = 0 if self.gan.weights else 7 * steps // 10
        gan = replace(self.gan, decay_steps=gan_steps)
        return replace(self, gan=gan, gan_steps=gan_steps, encoder_steps=steps - gan_steps)

    def learner(self, task: Task) -> EncoderProjectionLearner:
        return EncoderProjectionLearner(self, task)


class EncoderProjectionLearner(DefenseGANLearner):
    """The state of Defense-GAN's training, and an encoder."""

    def __init__(self, method: EncoderProjection, task: Task) -> None:
        super().__init__(method.gan, task)
        self.encoder = method
        if method.encoder_steps:
            self.E = Critic(task.shape, method.gan.width, method.gan.latent)
            self.opt_e = torch.optim.Adam(self.E.parameters(), method.lr)
        elif self.E is None:
            raise ValueError(f"{method.gan.weights} holds no E; train one with encoder_steps > 0")

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        taken = int(self.taken) - self.encoder.gan_steps
        if taken < 0:
            return super().step(x, y, rng=rng)
        self.taken += 1
        if not self.encoder.encoder_steps:
            raise ValueError("there is nothing to train, because G and E are given; set steps=0")
        set_lr(cosine(self.encoder.lr, taken, self.encoder.encoder_steps), self.opt_e)
        return {name: loss.item() for name, loss in self.update_encoder(x, rng).items()}

    def update_encoder(self, x: Images, rng: Rng) -> dict[str, Tensor]:
        """Update E: G(E(x + noise)) close to x."""
        method, G, E = self.encoder, frozen(self.G), self.E
        assert E is not None
        half = len(x) // 2
        adversarial = self.adversarial(x[:half], rng[:half].fold(4))
        z = E(torch.cat([adversarial, noisy(x[half:], method.noise, rng[half:])]))
        pixels, latents = squared_error(G(z), x).mean(), z.square().mean()
        minimise(self.opt_e, pixels + method.latent_weight * latents)
        return {"pixels": pixels.detach(), "latents": latents.detach()}

    def adversarial(self, x: Images, rng: Rng) -> Images:
        """The images with noise that increases their error: one signed step from a random start."""
        assert self.E is not None
        eps = self.encoder.adversarial_eps * rng.fold(0).uniform((1, 1, 1))
        start = x + eps / 2 * rng.fold(1).normal(x.shape[1:]).sign()
        start = start.clamp(0, 1).requires_grad_()
        error = squared_error(frozen(self.G)(frozen(self.E)(start)), x).sum()
        (gradient,) = torch.autograd.grad(error, start)
        moved = start.detach() + eps * gradient.sign()
        return torch.clamp(moved, x - eps, x + eps).clamp(0, 1)

    def outcome(self) -> Outcome:
        gan, E, steps = self.method, self.E, self.encoder.refine_steps
        assert E is not None
        search = replace(gan.search, steps=steps, restarts=1)
        purifier = (
            RefinedProjector(self.G, gan.latent, search, E, gan.threshold)
            if steps
            else Projector(self.G, E, gan.threshold)
        )
        return Outcome(self.task.classifier, purifier.eval())


class Projector(nn.Module):
    """The purifier G(E(x)).

    Args:
        generator: Maps latents to images.
        encoder: Maps images to latents.
        threshold: Mean squared error above which an image is rejected.
    """

    def __init__(self, generator: nn.Module, encoder: nn.Module, threshold: float) -> None:
        super().__init__()
        self.G = generator
        self.E = encoder
        self.threshold = threshold

    def forward(self, x: Images) -> Images:
        x_hat: Images = self.G(self.E(x))
        return x_hat

    @property
    def differentiable_approximation(self) -> Classifier:
        """The purifier itself, which is differentiable."""
        return frozen(self)

    def generate(self, z: Latents) -> Images:
        """The images of latents."""
        x_hat: Images = self.G(z)
        return x_hat

    def search(self, x: Images, rng: Rng) -> tuple[Latents, PerImage]:  # noqa: ARG002
        """The latent E(x) of each image, and the mean squared error of its generated image."""
        z = self.E(x)
        return z, squared_error(self.G(z), x)

    def detection_score(self, x: Images) -> PerImage:
        """The relative excess of each image's mean squared error over the threshold."""
        return squared_error(self(x), x) / self.threshold - 1


class RefinedProjector(Reconstructor):
    """Defense-GAN's search with one start, E(x). If all steps are unrolled, so is E."""

    def starts(self, x: Images, rng: Rng) -> Float[Tensor, "n restarts latent"]:  # noqa: ARG002
        assert self.E is not None
        return frozen(self.E)(x)[:, None]


def noisy(x: Images, amplitude: float, rng: Rng) -> Images:
    """The images with random signs added, in patches of 1, 2 or 4 pixels.

    Each image has its own amplitude, uniform in [0, ``amplitude``), and its own size of patches.
    """
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
    noise = torch.stack(patches)[kind, torch.arange(count, device=x.device)]
    return (x + amplitude * rng.fold(3).uniform((1, 1, 1)) * noise).clamp(0, 1)
