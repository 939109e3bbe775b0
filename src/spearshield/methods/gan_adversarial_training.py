"""GAN adversarial training: a classifier trained against a generator of perturbations.

Wang, Yu, "A Direct Approach to Robust Deep Learning Using Adversarial Networks", 2019.
https://arxiv.org/abs/1905.09591

    D  classifier  image -> logits, with weights theta           the defence
    G  generator   x -> perturbation in [-1, 1], weights phi     the attack

    min over theta, max over phi of  CE(D(x), y) + f(theta, phi)
    f(theta, phi) = CE(D(x + eps G(x)), y)

    G, five times:  phi   <- phi + lr_g v,   v = gradient of f in phi
    D, once:        theta <- theta - lr (gradient of CE(D(x), y) + f +- gamma R in theta)
    R = 1/2 |v|^2,  gradient of R in theta = (gradient of f(theta, phi + h v) - f(theta, phi)) / h

The regulariser R steadies the game. Its gradient is a finite difference with h = lr / 10.

Differences from the paper. The text of the paper was not available; networks, optimisers and
numbers follow the authors' code, https://github.com/whxbergkamp/RobustDL_GAN.

- The sign of the regulariser is a setting. The released code subtracts the gradient of R from the
  update of D, which rewards a large gradient; a penalty adds it.
- Pixels are in [0, 1], and the classifiers of the paper scale them to [-1, 1]; eps is half of the
  code's. Perturbed images are clipped to [0, 1].
- The clean and the perturbed images are one batch of D, so that its batch normalisation has one set
  of statistics.
- D is in evaluation mode while G is trained, and its batch normalisation uses running averages in
  attacks and tests. The code uses the statistics of the batch in all of them; see
  :mod:`spearshield.nets.transductive`.
- All steps of G and the step of D use the same batch. For MNIST, the code takes five steps of G on
  every batch and one step of D on every fifth: 25 steps of G for one of D.
- The learning rates decay on a half cosine in place of one division by ten. The weights of G have
  no penalty.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.nn.functional import cross_entropy

from spearshield.method import Outcome, Paper, Task
from spearshield.nets.wang_yu import GENERATORS, WangYuGenerator
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel
from spearshield.training.classifier_training import (
    MOMENTUM,
    AdversarialTraining,
    ClassifierLearner,
    accuracy,
    shrunk,
)
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.optim import minimise, set_lr
from spearshield.types import Images, Labels, Scalar


@dataclass(frozen=True)
class GANAdversarialTraining(AdversarialTraining):
    """Hyper-parameters of the paper; further settings are those of ``AdversarialTraining``.

    Args:
        threat: The threat model of the generator. The default is the paper's for MNIST.
        generator: ``convolutional``, the paper's for MNIST, or ``residual``, for SVHN and CIFAR-10.
        width: Channels of the generator's first convolution.
        generator_steps: Steps of the generator before each step of the classifier.
        generator_lr: Learning rate of the generator; it decays with the classifier's.
        generator_optimiser: ``sgd`` with a momentum of 0.9, the paper's for MNIST and SVHN, or
            ``adam`` with a momentum of 0.5, the paper's for CIFAR-10.
        gamma: Weight of the regulariser; 0: none.
        regulariser: ``penalty`` on the gradient of the generator, or ``reward``, as in the released
            code.

    Raises:
        ValueError: A number is out of range.
    """

    paper = Paper(
        "A Direct Approach to Robust Deep Learning Using Adversarial Networks",
        "Wang, Huaxia and Yu, Chun-Nam",
        2019,
        "https://arxiv.org/abs/1905.09591",
    )

    threat: ThreatModel = Linf(0.3)  # noqa: RUF009 - a frozen value
    generator: Literal["convolutional", "residual"] = "convolutional"
    width: int = 64
    generator_steps: int = 5
    generator_lr: float = 0.01
    generator_optimiser: Literal["sgd", "adam"] = "sgd"
    gamma: float = 0.01
    regulariser: Literal["penalty", "reward"] = "penalty"

    def __post_init__(self) -> None:
        super().__post_init__()
        ThreatModel.check(self.threat)
        require(self, "generator", one_of=GENERATORS)
        require(self, "generator_optimiser", one_of=("sgd", "adam"))
        require(self, "regulariser", one_of=("penalty", "reward"))
        require(self, "width", "generator_steps", at_least=1)
        require(self, "generator_lr", "gamma", at_least=0)
        if self.gamma and self.precision != "float32":
            raise ValueError(
                "the regulariser is a finite difference, which needs float32; set gamma=0"
            )

    def learner(self, task: Task) -> GANAdversarialLearner:
        return GANAdversarialLearner(self, task)


class GANAdversarialLearner(ClassifierLearner):
    def __init__(self, method: GANAdversarialTraining, task: Task) -> None:
        super().__init__(method, task)
        self.G = WangYuGenerator(method.generator, task.shape[0], method.width, method.threat)
        weights = self.G.parameters()
        self.opt_g: torch.optim.Optimizer = (
            torch.optim.SGD(weights, method.generator_lr, MOMENTUM)
            if method.generator_optimiser == "sgd"
            else torch.optim.Adam(weights, method.generator_lr, betas=(0.5, 0.999))
        )

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, n = self.method, len(x)
        set_lr(method.generator_lr * self.decay, self.opt_g)

        # G: max over phi of f(theta, phi).
        for _ in range(method.generator_steps):
            minimise(self.opt_g, -self.f(x, y))

        # D: min over theta of CE(D(x), y) + f(theta, phi) +- gamma R.
        with torch.no_grad():
            x_adv = self.G.train()(x, share=self.share)
        watched = self.watched(x, y, x_adv, shrunk(method.threat, self.share), rng)
        images = torch.cat([x, x_adv, self.moved(x, y)] if method.gamma else [x, x_adv])
        logits = self.logits(images)
        clean, f, *moved = (cross_entropy(part, y) for part in torch.split(logits, n))
        loss = clean + f
        for f_moved in moved:
            R = (f_moved - f) / self.h
            loss = loss + method.gamma * (R if method.regulariser == "penalty" else -R)
        self.minimise(loss)
        return {
            "clean": accuracy(logits[:n], y),
            "adversarial": accuracy(logits[n : 2 * n], y),
            "cross_entropy": (clean + f).item(),
            **watched,
        }

    def f(self, x: Images, y: Labels) -> Scalar:
        """f(theta, phi), differentiable in phi."""
        x_adv = self.G.train()(x, share=self.share)
        return cross_entropy(self.attacked()(x_adv), y)

    @property
    def h(self) -> float:
        """Length of the finite difference; it does not decay."""
        lr: float = self.method.lr
        return lr / 10

    def moved(self, x: Images, y: Labels) -> Images:
        """Images of G at phi + h v; phi does not change."""
        phi = list(self.G.parameters())
        v = torch.autograd.grad(self.f(x, y), phi)
        ahead = copy.deepcopy(self.G)
        with torch.no_grad():
            for weight, slope in zip(ahead.parameters(), v, strict=True):
                weight.add_(slope, alpha=self.h)
            x_moved: Images = ahead(x, share=self.share)
        return x_moved

    def outcome(self) -> Outcome:
        attack = LearnedAttack(self.method.threat, self.G.eval())
        return replace(super().outcome(), attack=attack)
