"""A fixed first layer that nearly binarises the pixels.

On MNIST, a network that is trained on adversarial images learns to threshold pixels in its first
layer: Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to
Adversarial Attacks", 2018, https://arxiv.org/abs/1706.06083, appendix C. Here the threshold is part
of the network from the start.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Threshold(nn.Module):
    """Compares each pixel with each threshold, by a steep ramp from -1 to 1.

    ::

        r_t(x) = 2 * clamp((x - t) / width + 1/2, 0, 1) - 1 + leak * x

    A change of at most eps moves only pixels that are within ``eps + width / 2`` of the threshold,
    except for the leak, so the interval bounds of the layers that follow are tighter. The layer
    has no weights. With a leak it grows strictly in each pixel: the sign of a gradient in a pixel
    is the sign of the gradient behind the threshold, so attacks in the L-infinity norm are not
    blocked.

    Args:
        thresholds: Numbers on the [0, 1] pixel scale.
        width: Length of the ramp, on the [0, 1] pixel scale.
        leak: Slope outside the ramp.
    """

    thresholds: Tensor

    def __init__(self, thresholds: tuple[float, ...], width: float, leak: float) -> None:
        super().__init__()
        column = torch.tensor(thresholds)[:, None, None]
        self.register_buffer("thresholds", column, persistent=False)
        self.width, self.leak = width, leak

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c_out h w"]:
        """The images with one channel for each channel of ``x`` and each threshold."""
        pixels = x.unsqueeze(2)
        ramp = ((pixels - self.thresholds) / self.width + 0.5).clamp(0, 1)
        return (2 * ramp - 1 + self.leak * pixels).flatten(1, 2)
