"""Ensemble adversarial training: one-step adversarial images of the model and of static models.

Tramer, Kurakin, Papernot, Goodfellow, Boneh, McDaniel, "Ensemble Adversarial Training: Attacks and
Defenses", 2018. https://arxiv.org/abs/1705.07204

    f            the classifier in training
    f_1 ... f_k  static models, trained on clean images before
    s            one of f, f_1 ... f_k, drawn uniformly for each batch
    y_s          the class that s predicts for x, so that the image does not reveal its label
    x_adv = x + eps * sign(gradient in x of CE(s(x), y_s))

    L = 1/2 CE(f(x), y) + 1/2 CE(f(x_adv), y)

In adversarial training with one step, f alone makes the images, and can learn to make harmless
ones: its gradient then misleads the attack. It has no such influence on static models. The aim is
robustness to images that are transferred from other models. Attacks of several steps on f itself
still succeed.

Differences from the paper. The text of the paper was not available; the loss, the choice of the
source and the predicted labels follow the authors' code,
https://github.com/ftramer/ensemble-adv-training.

- One static model is the task's classifier, the others are trained here, all at once, in the first
  steps. The authors load finished models: on MNIST three, one of the architecture of f.
- Both halves of the loss are in one batch, so layers that normalise over a batch see both.
- The source makes its images in evaluation mode; in the authors' code, f has dropout in training
  mode.
- The attack is the task's, which may take several steps. The paper's is FGSM.
- Schedules, averages and the growth of eps are those of every training of a classifier here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spearshield.adversary import Attack
from spearshield.architecture import Architecture
from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.method import Paper, Task, frozen
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.classifier_training import (
    AdversarialTraining,
    ClassifierLearner,
    optimiser_of,
    scaled,
)
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class EnsembleAdversarialTraining(AdversarialTraining):
    """Cross-entropy on clean images, and on images of a source that is drawn for each batch.

    Args:
        static: Architectures of the static models that are trained in the first steps. The task's
            classifier is one more static model.
        static_steps: Steps, before the others, that train only these static models, on clean
            images; their learning rate falls from ``lr`` to zero. Not used without ``static``.

    The other settings are those of
    :class:`~spearshield.training.classifier_training.AdversarialTraining`. Schedules begin after
    the first ``static_steps``, and ``precision`` is for f alone. With ``watch_every`` f is attacked
    at every measurement, whatever the source of the batch.

    Raises:
        ValueError: A number is out of range. At the start of training: there is no attack to train
            on, or an architecture does not fit the images.
    """

    paper = Paper(
        "Ensemble Adversarial Training: Attacks and Defenses",
        "Tramer, Florian and Kurakin, Alexey and Papernot, Nicolas and Goodfellow, Ian "
        "and Boneh, Dan and McDaniel, Patrick",
        2018,
        "https://arxiv.org/abs/1705.07204",
    )

    static: tuple[Architecture, ...] = (SmallCNN(), SmallCNN())
    static_steps: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "static_steps", at_least=0)

    def for_steps(self, steps: int) -> AdversarialTraining:
        """The same method for ``steps`` steps: 1 of 4 trains the static models, if any.

        The schedules, and the warm-up of eps, are those for the remaining steps.
        """
        first = steps // 4 if self.static else 0
        method = super().for_steps(steps - first)
        return replace(method, static_steps=first)  # type: ignore[call-arg]

    def learner(self, task: Task) -> EnsembleAdversarialLearner:
        return EnsembleAdversarialLearner(self, task)


class EnsembleAdversarialLearner(ClassifierLearner):
    pretrained: Tensor

    def __init__(self, method: EnsembleAdversarialTraining, task: Task) -> None:
        super().__init__(method, task)
        self.task, self.attack = task, task.attack
        built = [architecture.build(task.shape, task.classes) for architecture in method.static]
        self.static = nn.ModuleList(built)
        self.static_steps = method.static_steps if built else 0
        if built:
            self.static_optimiser = optimiser_of(method, self.static)
        self.register_buffer("pretrained", torch.tensor(0))

    @property
    def classifiers(self) -> list[nn.Module]:
        return [self.classifier, self.task.classifier, *self.static]

    @property
    def sources(self) -> list[Classifier]:
        """f, then the static models."""
        return [self.attacked(), *map(frozen, self.classifiers[1:])]

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        if int(self.pretrained) < self.static_steps:
            return self.step_static(x, y)

        # s: drawn for this batch. x_adv: its images.
        attack, sources = scaled(self.attack, self.share), self.sources
        s = sources[int(torch.randint(len(sources), ()))]
        x_adv = attacked(attack, s, x, rng)
        x_own = attacked(attack, sources[0], x, rng) if self.measured else x_adv
        watched = self.watched(x, y, x_own, attack.threat, rng)

        # L: one half for clean images, one half for the images of s.
        clean, adversarial = self.logits(torch.cat([x, x_adv])).chunk(2)
        loss_clean, loss_adversarial = cross_entropy(clean, y), cross_entropy(adversarial, y)
        self.minimise(0.5 * loss_clean + 0.5 * loss_adversarial)
        return {"clean": loss_clean.item(), "adversarial": loss_adversarial.item(), **watched}

    def step_static(self, x: Images, y: Labels) -> Mapping[str, float]:
        """One step of every static model on clean images."""
        taken = int(self.pretrained)
        set_lr(cosine(self.method.lr, taken, self.static_steps), self.static_optimiser)
        losses = torch.stack([cross_entropy(model.train()(x), y) for model in self.static])
        minimise(self.static_optimiser, losses.sum())
        self.pretrained += 1
        return {"static": losses.mean().item()}


def attacked(attack: Attack, s: Classifier, x: Images, rng: Rng) -> Images:
    """The images of a source: ``x``, attacked away from the classes that ``s`` predicts."""
    with torch.no_grad():
        y_s = s(x).argmax(1)
    return attack(s, x, y_s, rng=rng)
