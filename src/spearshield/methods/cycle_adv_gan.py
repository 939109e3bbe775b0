"""CycleAdvGAN: one training yields an attack and the purifier that undoes it.

Jiang, Qiao, Qin, Wang, Chen, Bu, Yan, "Cycle-Consistent Adversarial GAN: the integration of
adversarial attack and defense", 2019. https://arxiv.org/abs/1904.06026

    f    the classifier; where that is a black box, a student that learns its answers
    x'   adversarial images, those of the attack that is learnt from
    A    generator      x -> x_adv       the attack
    P    generator      x_adv -> x_hat   the purifier
    D_A  discriminator  image -> score   high for x';  D_P: high for x

    L_D = mean (D_A(x') - 1)^2 + mean D_A(A(x))^2 + mean (D_P(x) - 1)^2 + mean D_P(P(x'))^2
    L   = gan_weight * (mean (D_A(A(x)) - 1)^2 + mean (D_P(P(x')) - 1)^2)
        + cycle_weight * (mean |P(A(x)) - x| + mean |A(P(x')) - x'|)
        + identity_weight * mean |P(x) - x|
        + paired_weight * (mean |A(x) - x'| + mean |P(x') - x|)
        + attack_weight * (AdvGAN's loss of f(A(x)))
        + recovery_weight * (CE(f(P(x')), y) + CE(f(P(A(x))), y) + CE(f(P(x)), y))
        + size_weight * mean max(|A(x) - x|_2 - norm_hinge, 0)

Differences from the paper. No more than its abstract was at hand, and no code: two generators, two
discriminators, cycle consistency, semi-white-box and black-box settings. All losses, weights,
networks and settings are reconstructed from the two works that its name joins: CycleGAN, Zhu, Park,
Isola, Efros, 2017, https://arxiv.org/abs/1703.10593, and AdvGAN, https://arxiv.org/abs/1801.02610.
In particular these are choices of ours, which `benchmarks/generators.py` tries one at a time:

- least-squares discriminators, without CycleGAN's pool of older images;
- whether x and x' are used as pairs (``paired_weight``), which CycleGAN does not need;
- whether a generator answers with an image or with what is added to one (``residual_attack``,
  ``residual_purifier``), and how much P may add (``max_residual``);
- whether A is clipped into the threat model in training or held back by a price (``clip``);
- whether A sees what f makes of the image (``conditioned``), as AdvGAN may;
- the identity loss, and that P is also to leave clean images in their class;
- A and P lower one sum of losses, as in CycleGAN, so that A makes what P can undo; without
  ``cooperative`` A leaves P(A(x)) alone. To escape from P, train again, ``trained_on`` that pair.

In a black box x' are made on the student, so that f's gradient is never asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss

from spearshield.architecture import Architecture
from spearshield.losses.gan import least_squares
from spearshield.method import Learner, Method, Outcome, Paper, Task, minimise
from spearshield.methods.adv_gan import (
    Differentiable,
    check_target,
    error_loss,
    size_loss,
    succeeds,
)
from spearshield.nets.adv_gan import Discriminator, Generator, PerturbationGenerator
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.optim import cosine
from spearshield.training.precomputed_attack import PrecomputedAttack
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class CycleAdvGAN(Method):
    """Hyper-parameters of CycleAdvGAN.

    Args:
        threat: The budget of the attack that is learnt; that of the one learnt from is its own.
        width: Channels of the first convolutions; deeper ones have two and four times as many.
        gan_weight: Weight of the discriminators' opinions.
        cycle_weight: Weight of the way there and back.
        identity_weight: Weight of what P does to clean images.
        paired_weight: Weight of the distance to the other image of the pair; 0: there are no pairs.
        attack_weight: Weight of the classifier's error behind A.
        recovery_weight: Weight of its cross-entropy behind P.
        size_weight: Weight of the perturbation's size.
        norm_hinge: L2 norm from which on size costs, on the [0, 1] scale.
        kappa: Margin of logits beyond which an image that fools pulls no more.
        target: The class that images are to be taken for; ``None``: any wrong one.
        clip: Whether A is held inside ``threat`` in training too.
        informed: Whether A sees the maps and the probabilities that f, or its student, makes of the
            image. The attack then carries a copy of that, and still asks the victim nothing.
        cooperative: Whether A, too, lowers the losses of P(A(x)), so that its images can be undone.
        residual_attack: Whether A says what is added to an image, or the image itself.
        residual_purifier: Whether P does.
        most: The most that a residual P adds to a pixel, or takes away.
        lr: Learning rate of all Adams.
        decay_steps: Steps over which that of A, P, D_A and D_P falls to zero along a half cosine,
            and the student's stays; 0: all stay.
        student: What learns the answers of the task's classifier, which then is a black box;
            ``None``: that is differentiated itself.
        student_steps: Steps in which only the student learns, from clean images.
        labels_only: Whether it sees labels in place of probabilities.

    Raises:
        ValueError: A number is out of its range; or, at the start of training, there is a student
            and images that were attacked once.
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
                "a black box is not differentiated, so no images can be attacked once before the "
                "student is there: set precompute=false"
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
        self.f = Differentiable(task, method.student, method.labels_only)
        if method.conditioned:
            self.A.inform(self.f.own())
        generators = [*self.A.generator.parameters(), *self.P.parameters()]
        self.opt_g = torch.optim.Adam(generators, method.lr)
        self.opt_d = torch.optim.Adam([*self.D_A.parameters(), *self.D_P.parameters()], method.lr)
        if method.student:
            self.opt_f = torch.optim.Adam(self.f.parameters(), method.lr)
        self.register_buffer("taken", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, taken = self.method, int(self.taken)
        self.taken += 1
        if method.student and taken < method.student_steps:
            return self.distil(x)
        for optimiser in (self.opt_g, self.opt_d):
            optimiser.param_groups[0]["lr"] = cosine(method.lr, taken, method.decay_steps)
        x_ref = self.task.attack(self.f.model(), x, y, rng=rng)
        losses, x_adv = self.step_gan(x, x_ref, y)
        if method.student:
            return {**losses, **self.distil(torch.cat([x, x_adv]))}
        return losses

    def step_gan(self, x: Images, x_ref: Images, y: Labels) -> tuple[Mapping[str, float], Images]:
        """Update both discriminators, then both generators. ``x_ref`` is x'."""
        method, f = self.method, self.f.model()
        A, P, D_A, D_P = (net.train() for net in (self.A, self.P, self.D_A, self.D_P))
        x_adv = A(x)
        # One pass for three kinds of image, which in training share their batch's statistics.
        undone = x_adv if method.cooperative else x_adv.detach()
        x_hat, x_back, x_same = P(torch.cat([x_ref, undone, x])).chunk(3)
        x_again = A(x_hat)

        # D_A, D_P: images of their own kind up, generated ones down.
        loss_d = least_squares(D_A(x_ref), real=True) + least_squares(D_P(x), real=True)
        loss_d += least_squares(D_A(x_adv.detach()), real=False)
        loss_d += least_squares(D_P(x_hat.detach()), real=False)
        minimise(self.opt_d, loss_d)

        # A, P: taken for the other kind, there and back again; f errs, and is right again.
        gan = least_squares(D_A(x_adv), real=True) + least_squares(D_P(x_hat), real=True)
        cycle = l1_loss(x_back, x) + l1_loss(x_again, x_ref)
        identity = l1_loss(x_same, x)
        paired = l1_loss(x_adv, x_ref) + l1_loss(x_hat, x)
        fooled, *purified = f(torch.cat([x_adv, x_hat, x_back, x_same])).chunk(4)
        attack = error_loss(fooled, y, method.target, method.kappa)
        recovery = sum((cross_entropy(logits, y) for logits in purified), gan.new_zeros(()))
        size = size_loss(x_adv, x, method.norm_hinge)
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
        success = succeeds(fooled.detach(), y, method.target)
        return {**{k: v.item() for k, v in losses.items()}, "success": success}, x_adv.detach()

    def distil(self, x: Images) -> Mapping[str, float]:
        """The student takes a step towards the black box's answers."""
        loss = self.f.distance(x)
        minimise(self.opt_f, loss)
        return {"distillation": loss.item(), "queries": self.f.queries.item()}

    def outcome(self) -> Outcome:
        queries = int(self.f.queries)
        attack = LearnedAttack(self.method.threat, self.A.eval(), queries=queries)
        return Outcome(self.task.classifier, self.P.eval(), attack=attack, queries=queries)


class Purifier(nn.Module):
    """A generator's answer as an image.

    Args:
        residual: Whether the generator says what is added to the image, or the image itself.
        most: The most that is added to a pixel, or taken away.
    """

    def __init__(self, channels: int, width: int, residual: bool, max_residual: float) -> None:
        super().__init__()
        self.generator = Generator(channels, width)
        self.residual = residual
        self.max_residual = max_residual

    def forward(self, x: Images) -> Images:
        answer: Images = self.generator(x)
        return (x + self.max_residual * answer).clamp(0, 1) if self.residual else 0.5 + 0.5 * answer
