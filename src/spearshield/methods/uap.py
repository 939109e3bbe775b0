"""UAP: a universal adversarial perturbation, one for all images.

Moosavi-Dezfooli, Fawzi, Fawzi, Frossard, "Universal adversarial perturbations", 2017.
https://arxiv.org/abs/1610.08401
As gradient ascent: Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein, "Universal Adversarial
Training", 2020, https://arxiv.org/abs/1811.11304.

    max over delta in the threat model of  mean over images of  min(CE(f(x + delta), y), beta)

Differences from the paper. It goes through the images one by one, adds to delta the DeepFool step
of each that delta does not fool yet, and stops at a wanted share of fooled images. Here each batch
gives one steepest-ascent step on the clipped cross-entropy, as in the second paper, with the true
labels rather than the classifier's own; the number of steps is the training's. The gradient is
taken at the images as they are shown, clipped to [0, 1]: a pixel held by the clipping of some
images still counts, which on MNIST gave stronger perturbations than to leave it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from spearshield.attack import check_gradient
from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel
from spearshield.training.learned_attack import LearnedAttack
from spearshield.types import Images, Labels, Shape


@dataclass(frozen=True)
class UAP(Method):
    """Steepest ascent of one perturbation, against the task's classifier, over all batches.

    The outcome is that classifier as it was, and the perturbation as an attack.

    Args:
        threat: The budget of the perturbation. The default is the paper's for ImageNet.
        step_size: Length of a step in the norm of ``threat``, on the [0, 1] scale; ``None``: a
            tenth of ``eps``.
        beta: Cross-entropy from which on an image counts as lost and pulls no more, so that a few
            images do not make up the whole mean. An undecided classifier's is the logarithm of the
            number of classes: stay well above it.

    Raises:
        ValueError: ``step_size`` or ``beta`` is not positive.
    """

    paper = Paper(
        "Universal adversarial perturbations",
        "Moosavi-Dezfooli, Seyed-Mohsen and Fawzi, Alhussein and Fawzi, Omar and Frossard, Pascal",
        2017,
        "https://arxiv.org/abs/1610.08401",
    )

    threat: ThreatModel = Linf(10 / 255)  # noqa: RUF009 - a frozen value
    step_size: float | None = None
    beta: float = 9.0

    def __post_init__(self) -> None:
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size must be positive, got {self.step_size}")
        if not self.beta > 0:
            raise ValueError(f"beta must be positive, got {self.beta}")

    def learner(self, task: Task) -> UAPLearner:
        return UAPLearner(self, task)


class UAPLearner(Learner):
    def __init__(self, method: UAP, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        self.perturbation = AddedPerturbation(task.shape)

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        threat, delta = self.method.threat, self.perturbation.delta
        x_adv = self.perturbation(x).detach().requires_grad_()
        logits = frozen(self.task.classifier)(x_adv)
        loss = cross_entropy(logits, y, reduction="none").clamp(max=self.method.beta).mean()
        (gradients,) = torch.autograd.grad(loss, x_adv)
        check_gradient(gradients)
        size = self.method.step_size or threat.eps / 10
        with torch.no_grad():
            delta.copy_(
                threat.clip(delta + size * threat.steepest_step(gradients.sum(0, keepdim=True)))
            )
        self.perturbation.seen += len(x)
        return {
            "cross_entropy": loss.item(),
            "fooled": (logits.argmax(1) != y).float().mean().item(),
            "images": self.perturbation.seen.item(),
        }

    def outcome(self) -> Outcome:
        attack = LearnedAttack(self.method.threat, self.perturbation.eval())
        return Outcome(self.task.classifier, attack=attack)


class AddedPerturbation(nn.Module):
    """Adds the same perturbation to every image, and clips to [0, 1].

    ``seen`` counts the images it was learnt from, each as often as it was shown: of a set of ``n``
    images it was learnt from ``min(seen, n)``, less what did not fill a batch.
    """

    seen: torch.Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(1, *shape))
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, x: Images) -> Images:
        return (x + self.delta).clamp(0, 1)
