"""Convolutions with TensorFlow's "SAME" padding, for weights that were trained with it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad


class SamePad(nn.Module):
    """Zeros around an image, so that a strided convolution answers ``ceil(size / stride)`` pixels.

    Where their number is odd, one more goes to the right and to the bottom: unlike the symmetric
    padding of ``nn.Conv2d``, this depends on the image's size.
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
        answers = -(-size // self.stride)
        total = max((answers - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2


def same_conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Conv2d]:
    """A padding and the convolution behind it."""
    if stride == 1:
        return nn.Identity(), nn.Conv2d(inputs, outputs, kernel, padding="same", groups=groups)
    return SamePad(kernel, stride), nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)
