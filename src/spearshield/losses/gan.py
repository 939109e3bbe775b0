"""Adversarial losses and penalties, as pure functions of a discriminator's logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from spearshield.rng import Rng
from spearshield.types import Images, Scalar


def bce(logits: Float[Tensor, "*any"], real: bool) -> Scalar:
    """Mean binary cross-entropy of logits that should all say real, or all say fake.

    Goodfellow et al., "Generative Adversarial Networks", 2014, https://arxiv.org/abs/1406.2661;
    with ``real=True`` on generated images it is the generator's non-saturating loss.
    """
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def least_squares(scores: Float[Tensor, "*any"], real: bool) -> Scalar:
    """Mean squared distance of scores from 1, where they should say real, or from 0.

    Mao, Li, Xie, Lau, Wang, Smolley, "Least Squares Generative Adversarial Networks", 2017,
    https://arxiv.org/abs/1611.04076, equation 9.
    """
    return (scores - float(real)).square().mean()


def wasserstein(real: Float[Tensor, "*any"], fake: Float[Tensor, "*any"]) -> Scalar:
    """How much higher a critic scores real images than fake ones, on average.

    The critic maximises it and the generator minimises it. Under the best 1-Lipschitz critic it is
    the distance of Arjovsky, Chintala, Bottou, "Wasserstein GAN", 2017,
    https://arxiv.org/abs/1701.07875, equation 2.
    """
    return real.mean() - fake.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Images, fake: Images, rng: Rng
) -> Scalar:
    """Mean squared distance from 1 of the critic's slope, between each real and fake image.

    The slope is the L2 norm of the gradient over all of an image's pixels: Gulrajani, Ahmed,
    Arjovsky, Dumoulin, Courville, "Improved Training of Wasserstein GANs", 2017,
    https://arxiv.org/abs/1704.00028, algorithm 1. It can be differentiated by the critic's weights.

    Args:
        critic: Must treat each image on its own: no batch normalisation.
        rng: Says where between its two images each slope is taken.
    """
    share = rng.uniform((1, 1, 1))
    between = (real + share * (fake - real)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    slope: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return (slope - 1).square().mean()
