"""A steep threshold of pixels, for images that are nearly black and white.

On MNIST, a network that is trained on adversarial images learns to threshold pixels in its first
layer: Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to
Adversarial Attacks", 2018, https://arxiv.org/abs/1706.06083, appendix C. Here the threshold is part
of the network from the start.
"""

from __future__ import annotations

from torch import nn
from torch.nn.functional import hardtanh

from spearshield.types import Images


class Threshold(nn.Module):
    """Maps pixels below ``low`` to about -1, above ``high`` to about 1, and between on a line.

    The function grows strictly everywhere, with a slope of at least ``leak``: the sign of a
    gradient in a pixel is the sign of the gradient behind the threshold, so attacks in the
    L-infinity norm are not blocked.

    Args:
        low, high: Ends of the steep part, in [0, 1].
        leak: Slope outside the steep part.
    """

    def __init__(self, low: float, high: float, leak: float) -> None:
        super().__init__()
        self.low, self.high, self.leak = low, high, leak

    def forward(self, x: Images) -> Images:
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return hardtanh((x - middle) / half) + self.leak * (x - middle)
