"""The classifier that an attack is trained on: differentiated itself, or only queried.

A black box is queried, and a student that is distilled from its output is differentiated in its
place: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spearshield.architecture import Architecture
from spearshield.method import Task, Trainable, frozen
from spearshield.training.optim import minimise
from spearshield.types import Classifier, Images


class WhiteBox(nn.Module):
    """The task's classifier, which is differentiated itself."""

    student_steps = 0
    queries = 0

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def surrogate(self) -> Classifier:
        """The classifier as a function that is differentiable in its input alone."""
        return frozen(self.task.classifier)

    def network(self) -> nn.Module:
        """A copy of the classifier, for an attack that contains it; it is not trained."""
        return copy.deepcopy(self.task.classifier).requires_grad_(False)

    def distil(self, x: Images) -> Mapping[str, float]:  # noqa: ARG002
        """Nothing to do, and no losses."""
        return {}


class BlackBox(Trainable):
    """The task's classifier as a black box, and a student that is distilled from it.

    Args:
        student: Architecture of the student.
        student_steps: Number of steps in which only the student is trained.
        labels_only: If true, the student is trained on predicted labels, else on probabilities.
        lr: Learning rate of the student's Adam.
    """

    count: Tensor

    def __init__(
        self, task: Task, student: Architecture, student_steps: int, labels_only: bool, lr: float
    ) -> None:
        super().__init__()
        self.task = task
        self.student_steps = student_steps
        self.labels_only = labels_only
        self.student = student.build(task.shape, task.classes)
        self.optimiser = torch.optim.Adam(self.student.parameters(), lr)
        self.register_buffer("count", torch.tensor(0))

    @property
    def queries(self) -> int:
        """Number of images that the black box was queried with, counting repetitions."""
        return int(self.count)

    def surrogate(self) -> Classifier:
        """The student as a function that is differentiable in its input alone."""
        return frozen(self.student)

    def network(self) -> nn.Module:
        """The student itself, for an attack that contains it."""
        return self.student

    def distil(self, x: Images) -> Mapping[str, float]:
        """Query the black box with ``x``, and take one step of the student on its output."""
        output = self.query(x)
        loss = cross_entropy(self.student.train()(x), output)
        minimise(self.optimiser, loss)
        return {"distillation": loss.item(), "queries": self.queries}

    @torch.no_grad()
    def query(self, x: Images) -> Tensor:
        """The black box's labels of shape (n,), or its probabilities of shape (n, k)."""
        logits = frozen(self.task.classifier)(x)
        self.count += len(x)
        return logits.argmax(1) if self.labels_only else logits.softmax(1)


def target_model(
    task: Task, student: Architecture | None, student_steps: int, labels_only: bool, lr: float
) -> WhiteBox | BlackBox:
    """The task's classifier as a white box if ``student`` is ``None``, else as a black box."""
    if student is None:
        return WhiteBox(task)
    return BlackBox(task, student, student_steps, labels_only, lr)
