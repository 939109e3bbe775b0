"""The divergence of TRADES, between the predictions for clean and for adversarial images.

Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically Principled Trade-off between Robustness and
Accuracy", 2019, https://arxiv.org/abs/1901.08573.
"""

from __future__ import annotations

from torch.nn.functional import kl_div

from spearshield.types import Logits, PerImage


def kl_divergence(clean: Logits, adversarial: Logits) -> PerImage:
    """KL(softmax(clean) || softmax(adversarial)) of each image, in nats."""
    p, q = clean.log_softmax(1), adversarial.log_softmax(1)
    divergence: PerImage = kl_div(q, p, reduction="none", log_target=True).sum(1)
    return divergence
