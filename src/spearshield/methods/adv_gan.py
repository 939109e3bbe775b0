"""AdvGAN: a generator is trained to perturb any image in one pass so that it is misclassified.

Xiao, Li, Zhu, He, Liu, Song, "Generating Adversarial Examples with Adversarial Networks", 2018.
https://arxiv.org/abs/1801.02610

    f  the classifier, or a student distilled from it if it is a black box
    G  generator      x -> x_adv      the attack
    D  discriminator  image -> score  high for clean images
    Z  the logits of f;  t  the target class, if there is one

    L_D = mean (D(x) - 1)^2 + mean D(G(x))^2
    L_G = gan_weight * mean (D(G(x)) - 1)^2
        + attack_weight * mean max(Z_y - max_other Z, -kappa)       untargeted
        + attack_weight * mean max(max_other Z - Z_t, -kappa)       targeted
        + size_weight * mean max(|G(x) - x|_2 - norm_hinge, 0)
    L_f = CE(f(x), b(x)) + CE(f(G(x)), b(G(x)))    b: the output of a black box

The gradient of f is used in training only (semi-white-box); the attack makes no queries. The
student of a black box takes one step of distillation after every step of G, on clean images and on
images of the current G (section 3.3).

Differences from the paper. The paper's text was not available: the kinds of losses, their weights,
the networks and the optimiser are those of a public port,
https://github.com/mathcbc/advGAN_pytorch. Reconstructed or new here:

- The perturbation is inside the threat model by construction: eps times a tanh, then clipped. The
  port clips a full tanh to eps and penalises the size before clipping. With ``clip=False`` only the
  finished attack is clipped, and in training only the penalty limits the perturbation.
- The margin is on logits, and an image contributes to the loss until it is misclassified by a
  margin of ``kappa``. The port uses probabilities and a margin of 0, from which many new images
  fall short. The loss is a mean over the batch; the port's is a sum, which multiplies its weight by
  the batch size.
- G uses batch normalisation throughout; the port uses instance normalisation outside the residual
  blocks. D has no sigmoid, and one linear layer on its last maps, so it accepts images of any size.
  Initial weights are PyTorch's, not Gaussian with a standard deviation of 0.02.
- The learning rate has a half-cosine decay if ``decay_steps`` is set, and no stages.
- The paper's distillation targets are unknown; they are probabilities here, or labels.
- ``conditioned``: G also receives the feature maps and probabilities of f on the clean image, and
  the finished attack contains its own copy of f. This option is new, after AdvGAN++, Mangla,
  Jandial, Varshney, Balasubramanian, 2019, https://arxiv.org/abs/1908.00706, whose generator
  receives the classifier's features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spearshield.architecture import Architecture
from spearshield.losses.gan import least_squares
from spearshield.losses.margin import margin_loss
from spearshield.method import Learner, Method, Outcome, Paper, Task
from spearshield.nets.adv_gan import Discriminator, PerturbationGenerator
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel, norm2
from spearshield.training.black_box import target_model
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.types import Images, Labels, Logits, Scalar


@dataclass(frozen=True)
class AdvGAN(Method):
    """Hyper-parameters of AdvGAN.

    Args:
        threat: The threat model of the attack. The default is the paper's for MNIST.
        width: Channels of the first convolutions; deeper ones have two and four times as many.
        gan_weight: Weight of the discriminator's loss.
        attack_weight: Weight of the misclassification loss.
        size_weight: Weight of the penalty on the L2 norm of the perturbation.
        norm_hinge: Perturbations with an L2 norm below this are not penalised.
        kappa: Margin of logits above which a misclassified image does not contribute to the loss.
        target: The class that images should be classified as; ``None``: any wrong class.
        clip: If true, the perturbation is projected into ``threat`` in training too.
        conditioned: If true, G receives the feature maps and probabilities of f on the image. The
            attack then contains a copy of f, and still makes no queries.
        lr: Learning rate of all Adam optimisers.
        decay_steps: Steps over which the learning rate of G and D falls to zero along a half
            cosine; 0: it is constant. The student's is always constant.
        student: Architecture of a student that is distilled from the task's classifier, which is
            then a black box; ``None``: the classifier itself is differentiated.
        student_steps: Steps, before the others, that train only the student, on clean images.
        labels_only: If true, the black box returns labels in place of probabilities.

    Raises:
        ValueError: A number is out of range, or at the start of training, ``target`` is not a
            class.
    """

    paper = Paper(
        "Generating Adversarial Examples with Adversarial Networks",
        "Xiao, Chaowei and Li, Bo and Zhu, Jun-Yan and He, Warren and Liu, Mingyan and Song, Dawn",
        2018,
        "https://arxiv.org/abs/1801.02610",
    )

    threat: ThreatModel = Linf(0.3)  # noqa: RUF009 - a frozen value
    width: int = 8
    gan_weight: float = 1.0
    attack_weight: float = 10.0
    size_weight: float = 1.0
    norm_hinge: float = 0.0
    kappa: float = 5.0
    target: int | None = None
    clip: bool = True
    conditioned: bool = False
    lr: float = 1e-3
    decay_steps: int = 0
    student: Architecture | None = None
    student_steps: int = 0
    labels_only: bool = False

    def __post_init__(self) -> None:
        require(self, "width", at_least=1)
        require(self, "gan_weight", "attack_weight", "size_weight", at_least=0)
        require(self, "norm_hinge", "kappa", "lr", "decay_steps", "student_steps", at_least=0)

    def learner(self, task: Task) -> AdvGANLearner:
        check_target(self.target, task.classes)
        return AdvGANLearner(self, task)


class AdvGANLearner(Learner):
    taken: Tensor

    def __init__(self, method: AdvGAN, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        self.G = PerturbationGenerator(task.shape, method.width, method.threat, clip=method.clip)
        self.D = Discriminator(task.shape, method.width)
        self.f = target_model(
            task, method.student, method.student_steps, method.labels_only, method.lr
        )
        if method.conditioned:
            self.G.condition_on(self.f.network())
        self.opt_g = torch.optim.Adam(self.G.generator.parameters(), method.lr)
        self.opt_d = torch.optim.Adam(self.D.parameters(), method.lr)
        self.register_buffer("taken", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        method, taken = self.method, int(self.taken)
        self.taken += 1
        if taken < self.f.student_steps:
            return self.f.distil(x)
        set_lr(cosine(method.lr, taken, method.decay_steps), self.opt_g, self.opt_d)
        losses, x_adv = self.step_gan(x, y)
        return {**losses, **self.f.distil(torch.cat([x, x_adv]))}

    def step_gan(self, x: Images, y: Labels) -> tuple[Mapping[str, float], Images]:
        """Update D, then G; returns the losses and G(x)."""
        method, G, D, f = self.method, self.G.train(), self.D.train(), self.f.surrogate()
        x_adv = G(x)

        # D: high scores for clean images, low scores for perturbed images.
        loss_d = least_squares(D(x), real=True) + least_squares(D(x_adv.detach()), real=False)
        minimise(self.opt_d, loss_d)

        # G: images that D scores as clean, that f misclassifies, and close to x.
        Z = f(x_adv)
        gan = least_squares(D(x_adv), real=True)
        attack = misclassification_loss(Z, y, method.target, method.kappa)
        size = size_loss(x_adv, x, method.norm_hinge)
        minimise(
            self.opt_g,
            method.gan_weight * gan + method.attack_weight * attack + method.size_weight * size,
        )
        losses = {"d": loss_d.item(), "attack": attack.item(), "size": size.item()}
        return {**losses, "success": success_rate(Z, y, method.target)}, x_adv.detach()

    def outcome(self) -> Outcome:
        attack = LearnedAttack(self.method.threat, self.G.eval(), queries=self.f.queries)
        return Outcome(self.task.classifier, attack=attack, queries=self.f.queries)


def misclassification_loss(logits: Logits, y: Labels, target: int | None, kappa: float) -> Scalar:
    """Mean margin that is missing for a misclassification, or for ``target``; at least -kappa."""
    if target is None:
        return (-margin_loss(logits, y)).clamp(min=-kappa).mean()
    return margin_loss(logits, torch.full_like(y, target)).clamp(min=-kappa).mean()


def size_loss(x_adv: Images, x: Images, hinge: float) -> Scalar:
    """Mean amount by which the L2 norm of the perturbations exceeds ``hinge``."""
    return (norm2(x_adv - x) - hinge).clamp(min=0).mean()


def success_rate(logits: Logits, y: Labels, target: int | None) -> float:
    """Share of misclassified images; with a target, its share among images of other classes."""
    if target is None:
        return (logits.argmax(1) != y).float().mean().item()
    others = y != target
    return (logits[others].argmax(1) == target).float().sum().item() / max(int(others.sum()), 1)


def check_target(target: int | None, classes: int) -> None:
    """Raise if the target is not a class.

    Raises:
        ValueError: Names the classes.
    """
    if target is not None and not 0 <= target < classes:
        raise ValueError(f"target must be a class from 0 to {classes - 1} or none, got {target}")
