"""ATTA: adversarial training whose attack on an image goes on where the last epoch left it.

Zheng, Zhang, Gu, Zhou, Guo, Prakash, "Efficient Adversarial Training with Transferable Adversarial
Examples", 2020. https://arxiv.org/abs/1912.11969

    M  memory      the last perturbation of each training image

    delta_0     = M[image], or for a share of the images a random perturbation
    delta_0     = those with the highest CE(f(x + delta_0), y), if only a share is trained on
    delta_(k+1) = delta_k + s sign(gradient of CE(f(x + delta_k), y)), projected
    M[image]    = delta_r
    L = CE(f(x + delta_r), y)

A classifier changes little from one epoch to the next, so the perturbations stay adversarial, and a
few steps in each epoch attack like many.

Late in a training most images withstand the attack, and a step on them changes little. With
``hardest`` below 1, only the images of a batch with the highest loss at delta_0 are attacked
further and trained on: Jiang et al., "Accelerating Deep Learning by Focusing on the Biggest
Losers", 2019, https://arxiv.org/abs/1910.00762. The paper has no such choice.

Differences from the paper. Only its abstract and its first pages were available. In place of
clearing the memory after a number of epochs, a share of the images starts at random in every epoch.
Where images are shifted, reflected or warped, the memory holds the perturbation of the unchanged
image, so augmentation is a setting of the method. The memory has 8 bits for a pixel, and the size
of the largest for each image. The optimiser is Adam, and eps can grow over the first steps. The
budget is the eps of the task's attack; nothing else of that attack is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spearshield.adversary import loss_gradient
from spearshield.losses import margin
from spearshield.method import Paper, Task
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.augmentation import Augmentation
from spearshield.training.classifier_training import (
    AdversarialTraining,
    ClassifierLearner,
    accuracy,
    shrunk,
)
from spearshield.types import Ids, Images, Labels, Shape

LEVELS = 127
"""Number of levels of a pixel in memory, in each direction."""


@dataclass(frozen=True)
class ATTA(AdversarialTraining):
    """Cross-entropy on images whose perturbations are continued from epoch to epoch.

    The other settings are those of
    :class:`~spearshield.training.classifier_training.AdversarialTraining`. The memory takes one
    byte for each pixel of the training images.

    Args:
        steps: Gradient steps in each epoch.
        step_size: Length of a step, as a multiple of eps.
        restart: Share of the images that start at random, in [0, 1].
        hardest: Share of a batch, in (0, 1], that is attacked further and trained on.
        augmentation: Random changes of the images; use it in place of the training's.

    Raises:
        ValueError: A number is out of range. At the start of training: there is no attack to take
            the threat model of.
    """

    paper = Paper(
        "Efficient Adversarial Training with Transferable Adversarial Examples",
        "Zheng, Haizhong and Zhang, Ziqi and Gu, Juncheng and Zhou, Honglak and Guo, Fei and "
        "Prakash, Atul",
        2020,
        "https://arxiv.org/abs/1912.11969",
    )

    steps: int = 2
    step_size: float = 0.5
    restart: float = 0.05
    hardest: float = 1.0
    augmentation: Augmentation = Augmentation()  # noqa: RUF009 - a frozen value

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "steps", at_least=1)
        require(self, "step_size", above=0)
        require(self, "restart", at_least=0, at_most=1)
        require(self, "hardest", above=0, at_most=1)

    def learner(self, task: Task) -> ATTALearner:
        return ATTALearner(self, task)


class ATTALearner(ClassifierLearner):
    def __init__(self, method: ATTA, task: Task) -> None:
        super().__init__(method, task)
        self.threat = task.attack.threat
        self.memory = PerturbationMemory(task.shape)

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, threat, f = self.method, shrunk(self.threat, self.share), self.attacked()

        # delta_0: from memory or at random; the image and its perturbation move together.
        remembered = threat.eps * self.memory(rng.ids)
        drawn = threat.sample_perturbation(x, rng.fold(0))
        fresh = (rng.fold(1).uniform((1, 1, 1)) < method.restart) | ~self.memory.knows(rng.ids)
        delta = torch.where(fresh, drawn, remembered)
        moves = rng.fold(2)
        x, delta = method.augmentation(x, moves), method.augmentation.move(delta, moves)
        x_adv = threat.project(x + delta, x)
        hard = self.hardest(x_adv, y, method.hardest)
        x, y, x_adv, rng, moves = x[hard], y[hard], x_adv[hard], rng[hard], moves[hard]

        # delta_r: steps of steepest ascent.
        for _ in range(method.steps):
            gradient = loss_gradient(f, x_adv, y, margin.cross_entropy).gradient
            x_adv = threat.step(x_adv, x, gradient, method.step_size * threat.eps)
        reached = method.augmentation.undo(x_adv - x, moves)
        self.memory.store(rng.ids, reached / threat.eps)
        watched = self.watched(x, y, x_adv, threat, rng)

        # min over theta.
        logits = self.logits(x_adv)
        loss = cross_entropy(logits, y)
        self.minimise(loss)
        return {"cross_entropy": loss.item(), "accuracy": accuracy(logits, y), **watched}


class PerturbationMemory(nn.Module):
    """The last perturbation of each image, in 8 bits as a share of its largest pixel.

    It grows as needed.

    Args:
        shape: Channels, height and width of an image.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.stored = torch.zeros(0, *shape, dtype=torch.int8)
        self.largest = torch.zeros(0, 1, 1, 1)
        self.known = torch.zeros(0, dtype=torch.bool)

    def forward(self, ids: Ids) -> Images:
        """The perturbations of images; zero for images that are not known."""
        self.grow(ids)
        return self.stored[ids] * (self.largest[ids] / LEVELS)

    def knows(self, ids: Ids) -> Tensor:
        """True for images with a perturbation, of shape (n, 1, 1, 1)."""
        self.grow(ids)
        return self.known[ids][:, None, None, None]

    def store(self, ids: Ids, perturbations: Images) -> None:
        """Keep the perturbations of images."""
        largest = perturbations.abs().amax((1, 2, 3), keepdim=True)
        shares = perturbations / largest.clamp(min=torch.finfo(largest.dtype).tiny)
        self.stored[ids] = (LEVELS * shares).round().to(torch.int8)
        self.largest[ids] = largest
        self.known.index_fill_(0, ids, True)

    def grow(self, ids: Ids) -> None:
        """Make room for images."""
        needed, room = int(ids.max()) + 1, len(self.known)
        more = max(needed, 2 * room) - room if needed > room else 0
        for name, part in self.get_extra_state().items():
            kept, new = part.to(ids.device), part.new_zeros(more, *part.shape[1:])
            setattr(self, name, torch.cat([kept, new.to(ids.device)]) if more else kept)

    def get_extra_state(self) -> dict[str, Any]:
        return {"stored": self.stored, "largest": self.largest, "known": self.known}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.stored, self.largest = state["stored"], state["largest"]
        self.known = state["known"]
