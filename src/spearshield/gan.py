"""Adversarial losses and penalties, as pure functions of a discriminator's logits."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from spearshield.types import Scalar


def bce(logits: Float[Tensor, "*any"], real: bool) -> Scalar:
    """Mean binary cross-entropy of logits that should all say real, or all say fake.

    Goodfellow et al., "Generative Adversarial Networks", 2014, https://arxiv.org/abs/1406.2661;
    with ``real=True`` on generated images it is the generator's non-saturating loss.
    """
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
