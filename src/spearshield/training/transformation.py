"""Methods that change images by a fixed rule, and the learner that they share."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spearshield.method import Learner, Method, Outcome, Task
from spearshield.rng import Rng
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class Transformation(Method):
    """A method whose purifier is a fixed rule. Its training has no steps."""

    trained: ClassVar[bool] = False

    @abc.abstractmethod
    def purifier(self, task: Task) -> nn.Module:
        """The purifier of images of the task."""

    def learner(self, task: Task) -> TransformationLearner:
        return TransformationLearner(self.purifier(task), task)


class TransformationLearner(Learner):
    def __init__(self, purifier: nn.Module, task: Task) -> None:
        super().__init__()
        self.purifier = purifier.eval()
        self.task = task

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        raise ValueError("a fixed transformation is not trained; set the number of steps to 0")

    def outcome(self) -> Outcome:
        return Outcome(self.task.classifier, purifier=self.purifier)


class ArrayPurifier(nn.Module, abc.ABC):
    """A purifier that another library computes, one image at a time. It has no gradient."""

    @torch.no_grad()
    def forward(self, x: Images) -> Images:
        """The purified images, in the dtype of ``x``; they are computed in float32."""
        arrays = x.detach().float().permute(0, 2, 3, 1).cpu().numpy()
        purified = np.empty_like(arrays)
        for array, place in zip(arrays, purified, strict=True):
            place[...] = self.purified(np.ascontiguousarray(array))
        x_hat: Tensor = torch.from_numpy(purified).permute(0, 3, 1, 2)
        return x_hat.clamp(0, 1).to(x)

    @abc.abstractmethod
    def purified(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """One purified image, of shape (h, w, c), in [0, 1]."""
