"""Convolutions with TensorFlow's "SAME" padding, for weights trained with it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad


class SamePad(nn.Module):
    """Zero padding, so that a strided convolution outputs ``ceil(size / stride)`` pixels.

    If the number of zeros is odd, the right and the bottom side get one more. Unlike the symmetric
    padding of ``nn.Conv2d``, the number depends on the size of the image.
    https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h_padded w_padded"]:
        top, bottom = self._zeros(x.shape[2])
        left, right = self._zeros(x.shape[3])
        return pad(x, (left, right, top, bottom))

    def _zeros(self, size: int) -> tuple[int, int]:
        outputs = -(-size // self.stride)
        total = max((outputs - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2


def same_conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Conv2d]:
    """A padding layer, and the convolution to apply after it."""
    if stride == 1:
        return nn.Identity(), nn.Conv2d(inputs, outputs, kernel, padding="same", groups=groups)
    return SamePad(kernel, stride), nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)
