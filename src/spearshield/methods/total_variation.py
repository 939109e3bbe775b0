"""Total variation minimisation: the smoothest image near the image.

Guo, Rana, Cisse, van der Maaten, "Countering Adversarial Images using Input Transformations", 2018.
https://arxiv.org/abs/1711.00117

    x_hat = argmin over z of  |z - x|^2 / 2 + weight * TV(z)

scikit-image finds it: the dual algorithm of Chambolle, 2004,
https://doi.org/10.1023/B:JMIV.0000011325.36760.1e.

Differences from the paper. The paper compares z with x at a random half of the pixels; here all
pixels count, so nothing is random. BPDA with the identity attacks it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spearshield.method import Paper, Task
from spearshield.nets.external import package
from spearshield.ranges import require
from spearshield.training.transformation import ArrayPurifier, Transformation

SCIKIT_IMAGE = "skimage.restoration"


@dataclass(frozen=True)
class TotalVariation(Transformation):
    """Images of less total variation. Needs scikit-image.

    Args:
        weight: Weight of the total variation, on the [0, 1] pixel scale.

    Raises:
        ValueError: ``weight`` is not positive. At the start of training: scikit-image is missing.
    """

    paper = Paper(
        "Countering Adversarial Images using Input Transformations",
        "Guo, Chuan and Rana, Mayank and Cisse, Moustapha and van der Maaten, Laurens",
        2018,
        "https://arxiv.org/abs/1711.00117",
    )

    weight: float = 0.03

    def __post_init__(self) -> None:
        require(self, "weight", above=0)

    def purifier(self, task: Task) -> Smoothing:  # noqa: ARG002
        return Smoothing(self.weight)


class Smoothing(ArrayPurifier):
    """Minimises the total variation of each image."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        package(SCIKIT_IMAGE)  # raises now, if it is missing

    def purified(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        smooth: NDArray[np.float32] = package(SCIKIT_IMAGE).denoise_tv_chambolle(
            image, weight=self.weight, channel_axis=2
        )
        return smooth
