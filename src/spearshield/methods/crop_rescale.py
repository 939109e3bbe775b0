"""Cropping and rescaling: a random part of the image, enlarged to its full size.

Guo, Rana, Cisse, van der Maaten, "Countering Adversarial Images using Input Transformations", 2018.
https://arxiv.org/abs/1711.00117

    x_hat = resize(crop(x, at random))

Differences from the paper. The paper averages the predictions of many crops; here the victim
classifies one crop, and the evaluation takes the majority over draws. The default side is ours: the
crop keeps 64 % of the area. The crop is differentiable, so EOT attacks it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import affine_grid, grid_sample

from spearshield.method import Paper, RandomPurifier, Task
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.transformation import Transformation
from spearshield.types import Images


@dataclass(frozen=True)
class CropRescale(Transformation):
    """A random crop of each image, enlarged.

    Args:
        share: Side of the crop, as a share of the side of the image.

    Raises:
        ValueError: ``share`` is not in (0, 1].
    """

    paper = Paper(
        "Countering Adversarial Images using Input Transformations",
        "Guo, Chuan and Rana, Mayank and Cisse, Moustapha and van der Maaten, Laurens",
        2018,
        "https://arxiv.org/abs/1711.00117",
    )

    share: float = 0.8

    def __post_init__(self) -> None:
        require(self, "share", above=0, at_most=1)

    def purifier(self, task: Task) -> RandomCrop:  # noqa: ARG002
        return RandomCrop(self.share)


class RandomCrop(RandomPurifier):
    """Bilinear samples of a square window at a random place."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def purify(self, x: Images, rng: Rng) -> Images:
        offset = rng.uniform((2,), self.share - 1, 1 - self.share).to(x)
        whole = torch.eye(2, 3, dtype=x.dtype, device=x.device)[None]
        places = affine_grid(whole, [1, *x.shape[1:]], align_corners=False)
        grid = self.share * places + offset[:, None, None]
        x_hat: Images = grid_sample(x, grid, padding_mode="border", align_corners=False)
        return x_hat
