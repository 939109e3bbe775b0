"""Adversarial losses and penalties for generative adversarial networks, as pure functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from spearshield.rng import Rng
from spearshield.types import Images, Scalar


def bce(logits: Float[Tensor, "*any"], real: bool) -> Scalar:
    """Mean binary cross-entropy of a discriminator's logits with the label 1 (real) or 0 (fake).

    Goodfellow et al., "Generative Adversarial Networks", 2014, https://arxiv.org/abs/1406.2661.
    With ``real=True`` on generated images it is the non-saturating loss of the generator.
    """
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def least_squares(scores: Float[Tensor, "*any"], real: bool) -> Scalar:
    """Mean squared difference between a discriminator's scores and 1 (real) or 0 (fake).

    Mao, Li, Xie, Lau, Wang, Smolley, "Least Squares Generative Adversarial Networks", 2017,
    https://arxiv.org/abs/1611.04076, equation 9.
    """
    return (scores - float(real)).square().mean()


def wasserstein(real: Float[Tensor, "*any"], fake: Float[Tensor, "*any"]) -> Scalar:
    """A critic's mean score of real images minus its mean score of fake images.

    The critic maximises it and the generator minimises it. With the best 1-Lipschitz critic it is
    the distance of Arjovsky, Chintala, Bottou, "Wasserstein GAN", 2017,
    https://arxiv.org/abs/1701.07875, equation 2.
    """
    return real.mean() - fake.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Images, fake: Images, rng: Rng
) -> Scalar:
    """Mean squared difference between 1 and the critic's gradient norm on interpolated images.

    The gradient norm is the L2 norm over all pixels of an image: Gulrajani, Ahmed, Arjovsky,
    Dumoulin, Courville, "Improved Training of Wasserstein GANs", 2017,
    https://arxiv.org/abs/1704.00028, algorithm 1. The penalty is differentiable with respect to the
    weights of the critic.

    Args:
        critic: Scores images independently of each other: no batch normalisation.
        rng: Randomness of the point between each real and fake image.
    """
    share = rng.uniform((1, 1, 1))
    between = (real + share * (fake - real)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norm: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return (norm - 1).square().mean()
