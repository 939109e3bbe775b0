"""CycleAdvGAN: one training produces an attack and the purifier that removes its perturbations.

Jiang, Qiao, Qin, Wang, Chen, Bu, Yan, "Cycle-Consistent Adversarial GAN: the integration of
adversarial attack and defense", 2019. https://arxiv.org/abs/1904.06026

    f      the classifier, or a student distilled from it if it is a black box
    x_ref  adversarial images of the attack that the method is trained on
    A      generator      x -> x_adv       the attack
    P      generator      x_adv -> x_hat   the purifier
    D_A    discriminator  image -> score   high for x_ref
    D_P    discriminator  image -> score   high for x

    L_D = mean (D_A(x_ref) - 1)^2 + mean D_A(A(x))^2 + mean (D_P(x) - 1)^2 + mean D_P(P(x_ref))^2
    L   = gan_weight * (mean (D_A(A(x)) - 1)^2 + mean (D_P(P(x_ref)) - 1)^2)
        + cycle_weight * (mean |P(A(x)) - x| + mean |A(P(x_ref)) - x_ref|)
        + identity_weight * mean |P(x) - x|
        + paired_weight * (mean |A(x) - x_ref| + mean |P(x_ref) - x|)
        + attack_weight * (AdvGAN's loss of f(A(x)))
        + recovery_weight * (CE(f(P(x_ref)), y) + CE(f(P(A(x))), y) + CE(f(P(x)), y))
        + size_weight * mean max(|A(x) - x|_2 - norm_hinge, 0)

P is called once for x_ref, A(x) and x together: in training, its batch normalisation uses the
statistics of all three. Three calls would train another purifier. f, in evaluation mode, is called
once as well, which changes nothing but rounding.

Differences from the paper. Only its abstract was available, and no code: two generators, two
discriminators, cycle consistency, a semi-white-box and a black-box setting. All losses, weights,
networks and settings are reconstructed from the two works that its name combines: CycleGAN, Zhu,
Park, Isola, Efros, 2017, https://arxiv.org/abs/1703.10593, and AdvGAN,
https://arxiv.org/abs/1801.02610. `benchmarks/generators.py` changes these choices one at a time:

- the discriminators' losses are least squares, without CycleGAN's pool of older images;
- x and x_ref can be used as pairs (``paired_weight``), which CycleGAN does not need;
- a generator's output is an image or a change of its input (``residual_attack``,
  ``residual_purifier``), and the change of P can be limited (``max_residual``);
- A is projected into the threat model in training, or only penalised (``clip``);
- A can receive the features of f (``conditioned``), as an option of AdvGAN;
- the identity loss, and a recovery loss on clean images;
- A and P minimise one sum of losses, as in CycleGAN, so that A makes images that P can purify.
  Without ``cooperative``, the losses of P(A(x)) do not train A. To train an A against a finished
  P, start another training with ``trained_on``.

If f is a black box, x_ref are made on the student, so the gradient of the classifier is never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss

from spearshield.architecture import Architecture
from spearshield.losses.gan import least_squares
from spearshield.method import Learner, Method, Outcome, Paper, Task
from spearshield.methods.adv_gan import (
    check_target,
    misclassification_loss,
    size_loss,
    success_rate,
)
from spearshield.nets.adv_gan import Discriminator, Generator, PerturbationGenerator
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel
from spearshield.training.black_box import target_model
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.training.precomputed_attack import PrecomputedAttack
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class CycleAdvGAN(Method):
    """Hyper-parameters of CycleAdvGAN.

    Args:
        threat: The threat model of A. The attack that the method is trained on has its own.
        width: Channels of the first convolutions; deeper ones have two and four times as many.
        gan_weight: Weight of the discriminators' losses.
        cycle_weight: Weight of the distances P(A(x)) to x and A(P(x_ref)) to x_ref.
        identity_weight: Weight of the distance P(x) to x.
        paired_weight: Weight of the distances A(x) to x_ref and P(x_ref) to x; 0: no pairs.
        attack_weight: Weight of the misclassification loss of A(x).
        recovery_weight: Weight of the cross-entropy of purified images.
        size_weight: Weight of the penalty on the L2 norm of A's perturbation.
        norm_hinge: Perturbations with an L2 norm below this are not penalised.
        kappa: Margin of logits above which a misclassified image does not contribute to the loss.
        target: The class that images should be classified as; ``None``: any wrong class.
        clip: If true, A's perturbation is projected into ``threat`` in training too.
        conditioned: If true, A receives the feature maps and probabilities of f on the image. The
            attack then contains a copy of f, and still makes no queries.
        cooperative: If true, the losses of P(A(x)) also train A, so that P can purify its images.
        residual_attack: If true, A's network outputs the perturbation, else the image.
        residual_purifier: If true, P's network outputs the change of its input, else the image.
        max_residual: Largest change of a pixel by a residual P.
        lr: Learning rate of all Adam optimisers.
        decay_steps: Steps over which the learning rate of A, P, D_A and D_P falls to zero along a
            half cosine; 0: it is constant. The student's is always constant.
        student: Architecture of a student that is distilled from the task's classifier, which is
            then a black box; ``None``: the classifier itself is differentiated.
        student_steps: Steps, before the others, that train only the student, on clean images.
        labels_only: If true, the black box returns labels in place of probabilities.

    Raises:
        ValueError: A number is out of range; or at the start of training, ``target`` is not a
            class, or there is a student and the training images were attacked before.
    """

    paper = Paper(
        "Cycle-Consistent Adversarial GAN: the integration of adversarial attack and defense",
        "Jiang, Lingyun and Qiao, Kai and Qin, Ruoxi and Wang, Linyuan and Chen, Jian "
        "and Bu, Haibing and Yan, Bin",
        2019,
        "https://arxiv.org/abs/1904.06026",
    )

    threat: ThreatModel = Linf(0.3)  # noqa: RUF009 - a frozen value
    width: int = 8
    gan_weight: float = 1.0
    cycle_weight: float = 10.0
    identity_weight: float = 5.0
    paired_weight: float = 0.0
    attack_weight: float = 10.0
    recovery_weight: float = 10.0
    size_weight: float = 0.0
    norm_hinge: float = 0.0
    kappa: float = 5.0
    target: int | None = None
    clip: bool = True
    conditioned: bool = False
    cooperative: bool = True
    residual_attack: bool = True
    residual_purifier: bool = True
    max_residual: float = 1.0
    lr: float = 1e-3
    decay_steps: int = 0
    student: Architecture | None = None
    student_steps: int = 0
    labels_only: bool = False

    def __post_init__(self) -> None:
        require(self, "width", at_least=1)
        require(self, "gan_weight", "cycle_weight", "identity_weight", "paired_weight", at_least=0)
        require(self, "attack_weight", "recovery_weight", "size_weight", "norm_hinge", at_least=0)
        require(self, "max_residual", "kappa", "lr", "decay_steps", "student_steps", at_least=0)

    def learner(self, task: Task) -> CycleAdvGANLearner:
        check_target(self.target, task.classes)
        if self.student and isinstance(task.learn_from, PrecomputedAttack):
            raise ValueError(
                "the images cannot be attacked before the first step, because a black box is not "
                "differentiated and its student is not trained yet: set precompute=false"
            )
        return CycleAdvGANLearner(self, task)


class CycleAdvGANLearner(Learner):
    taken: Tensor

    def __init__(self, method: CycleAdvGAN, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        shape, width = task.shape, method.width
        self.A = PerturbationGenerator(
            shape,
            width,
            method.threat,
            residual=method.residual_attack,
            clip=method.clip,
        )
        self.P = Purifier(shape[0], width, method.residual_purifier, method.max_residual)
        self.D_A = Discriminator(shape, width)
        self.D_P = Discriminator(shape, width)
        self.f = target_model(
            task, method.student, method.student_steps, method.labels_only, method.lr
        )
        if method.conditioned:
            self.A.condition_on(self.f.network())
        generators = [*self.A.generator.parameters(), *self.P.parameters()]
        self.opt_g = torch.optim.Adam(generators, method.lr)
        self.opt_d = torch.optim.Adam([*self.D_A.parameters(), *self.D_P.parameters()], method.lr)
        self.register_buffer("taken", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, taken = self.method, int(self.taken)
        self.taken += 1
        if taken < self.f.student_steps:
            return self.f.distil(x)
        set_lr(cosine(method.lr, taken, method.decay_steps), self.opt_g, self.opt_d)
        x_ref = self.task.attack(self.f.surrogate(), x, y, rng=rng)
        losses, x_adv = self.step_gan(x, x_ref, y)
        return {**losses, **self.f.distil(torch.cat([x, x_adv]))}

    def step_gan(self, x: Images, x_ref: Images, y: Labels) -> tuple[Mapping[str, float], Images]:
        """Update both discriminators, then both generators; returns the losses and A(x)."""
        method, f = self.method, self.f.surrogate()
        A, P, D_A, D_P = (net.train() for net in (self.A, self.P, self.D_A, self.D_P))
        A_x = A(x)
        P_ref, P_A_x, P_x = P(
            torch.cat([x_ref, A_x if method.cooperative else A_x.detach(), x])
        ).chunk(3)
        A_P_ref = A(P_ref)

        # D_A, D_P: high scores for x_ref and for x, low scores for generated images.
        loss_d = least_squares(D_A(x_ref), real=True) + least_squares(D_P(x), real=True)
        loss_d += least_squares(D_A(A_x.detach()), real=False)
        loss_d += least_squares(D_P(P_ref.detach()), real=False)
        minimise(self.opt_d, loss_d)

        # A, P: the seven terms.
        gan = least_squares(D_A(A_x), real=True) + least_squares(D_P(P_ref), real=True)
        cycle = l1_loss(P_A_x, x) + l1_loss(A_P_ref, x_ref)
        identity = l1_loss(P_x, x)
        paired = l1_loss(A_x, x_ref) + l1_loss(P_ref, x)
        Z_A_x, Z_P_ref, Z_P_A_x, Z_P_x = f(torch.cat([A_x, P_ref, P_A_x, P_x])).chunk(4)
        attack = misclassification_loss(Z_A_x, y, method.target, method.kappa)
        recovery = cross_entropy(Z_P_ref, y) + cross_entropy(Z_P_A_x, y) + cross_entropy(Z_P_x, y)
        size = size_loss(A_x, x, method.norm_hinge)
        minimise(
            self.opt_g,
            method.gan_weight * gan
            + method.cycle_weight * cycle
            + method.identity_weight * identity
            + method.paired_weight * paired
            + method.attack_weight * attack
            + method.recovery_weight * recovery
            + method.size_weight * size,
        )
        losses = {"d": loss_d, "gan": gan, "cycle": cycle, "attack": attack, "recovery": recovery}
        success = success_rate(Z_A_x, y, method.target)
        return {**{k: v.item() for k, v in losses.items()}, "success": success}, A_x.detach()

    def outcome(self) -> Outcome:
        attack = LearnedAttack(self.method.threat, self.A.eval(), queries=self.f.queries)
        return Outcome(self.task.classifier, self.P.eval(), attack, self.f.queries)


class Purifier(nn.Module):
    """A generator whose output is an image in [0, 1].

    Args:
        residual: If true, the network outputs the change of its input, else the image.
        max_residual: Largest change of a pixel by a residual network.
    """

    def __init__(self, channels: int, width: int, residual: bool, max_residual: float) -> None:
        super().__init__()
        self.generator = Generator(channels, width)
        self.residual = residual
        self.max_residual = max_residual

    def forward(self, x: Images) -> Images:
        output: Images = self.generator(x)
        return (x + self.max_residual * output).clamp(0, 1) if self.residual else 0.5 + 0.5 * output
