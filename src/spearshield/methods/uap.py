"""UAP: a universal adversarial perturbation, one for all images.

Moosavi-Dezfooli, Fawzi, Fawzi, Frossard, "Universal adversarial perturbations", 2017.
https://arxiv.org/abs/1610.08401
As gradient ascent: Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein, "Universal Adversarial
Training", 2020, https://arxiv.org/abs/1811.11304.

    max over delta in the threat model of  mean over images of  min(CE(f(x + delta), y), beta)

Differences from the paper. The paper processes images one by one, adds the DeepFool step of each
image that is still classified correctly, and stops at a given success rate. Here each batch gives
one steepest-ascent step on the clipped cross-entropy, as in the second paper, with the true labels
in place of predicted labels, and the training sets the number of steps. The gradient is taken at
the images x + delta, clipped to [0, 1], without the derivative of the clipping; on MNIST this gave
stronger perturbations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from spearshield.gradients import gradients
from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel
from spearshield.training.learned_attack import LearnedAttack
from spearshield.types import Images, Labels, Shape


@dataclass(frozen=True)
class UAP(Method):
    """Steepest ascent of one perturbation for the task's classifier.

    The outcome is the unchanged classifier, and the perturbation as an attack.

    Args:
        threat: The threat model of the perturbation. The default is the paper's for ImageNet.
        step_size: Length of a step in the norm of ``threat``, on the [0, 1] pixel scale; ``None``:
            a tenth of ``eps``.
        beta: Cross-entropy above which an image does not contribute to the gradient, so that no
            image dominates the mean. It must be well above the cross-entropy of a uniform
            prediction, the logarithm of the number of classes.

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
        require(self, "step_size", "beta", above=0)

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
        (gradient,) = gradients(loss[None], x_adv)
        size = self.method.step_size or threat.eps / 10
        with torch.no_grad():
            delta.copy_(
                threat.clip(delta + size * threat.steepest_step(gradient.sum(0, keepdim=True)))
            )
        self.perturbation.seen += len(x)
        return {
            "cross_entropy": loss.item(),
            "success": (logits.argmax(1) != y).float().mean().item(),
            "images": self.perturbation.seen.item(),
        }

    def outcome(self) -> Outcome:
        attack = LearnedAttack(self.method.threat, self.perturbation.eval())
        return Outcome(self.task.classifier, attack=attack)


class AddedPerturbation(nn.Module):
    """Adds the same perturbation to every image, and clips to [0, 1].

    ``seen`` counts the training images, including repetitions.
    """

    seen: torch.Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(1, *shape))
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, x: Images) -> Images:
        return (x + self.delta).clamp(0, 1)
