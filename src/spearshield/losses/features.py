"""Distance of images in the features of a classifier.

Liao, Liang, Dong, Pang, Hu, Zhu, "Defense against Adversarial Attacks Using High-Level
Representation Guided Denoiser", 2018, https://arxiv.org/abs/1712.02976, guides a purifier by it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spearshield.types import Scalar


def feature_distance(phi_hat: Float[Tensor, "n d"], phi: Float[Tensor, "n d"]) -> Scalar:
    """Mean squared distance of features, in units of the mean squared norm of ``phi``.

    It does not depend on the scale and the number of the features.
    """
    tiny = torch.finfo(phi.dtype).tiny
    size = phi.square().sum(1).mean().clamp(min=tiny)
    return (phi_hat - phi).square().sum(1).mean() / size
