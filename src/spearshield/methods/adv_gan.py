"""AdvGAN: a generator learns to perturb any image in one pass, so that the classifier errs.

Xiao, Li, Zhu, He, Liu, Song, "Generating Adversarial Examples with Adversarial Networks", 2018.
https://arxiv.org/abs/1801.02610

    f  the classifier; where that is a black box, a student that learns its answers
    G  generator      x -> x_adv      the attack
    D  discriminator  image -> score  high for clean images
    Z  the logits of f;  t  the target, where there is one

    L_D = mean (D(x) - 1)^2 + mean D(G(x))^2
    L_G = gan_weight * mean (D(G(x)) - 1)^2
        + attack_weight * mean max(Z_y - max_other Z, -kappa)       untargeted
        + attack_weight * mean max(max_other Z - Z_t, -kappa)       targeted
        + size_weight * mean max(|G(x) - x|_2 - norm_hinge, 0)
    L_f = CE(f(x), answer(x)) + CE(f(G(x)), answer(G(x)))           black box

f's gradient is used in training alone (semi-white-box); the attack asks nothing. In a black box the
student is distilled anew at every step, on images as they are now perturbed (section 3.3).

Differences from the paper. Its text was not at hand: the kinds of losses, their weights, networks
and optimiser are those of a public port, https://github.com/mathcbc/advGAN_pytorch. Reconstructed,
or ours:

- The perturbation is held inside the threat model by construction: eps times a tanh, then clipped.
  The port cuts a whole tanh off at eps, and its price is that of the size before the cut.
  ``clip=False`` leaves the cut to the finished attack, so that in training only the price of size
  holds the perturbation back.
- The margin is on logits, and an image pulls until it is ``kappa`` beyond the boundary; the port's
  is on probabilities and ends at the boundary, where many new images fail. It is a mean over the
  batch; the port's is a sum, which weighs it as many times more as a batch has images.
- G normalises over the batch throughout; the port over each image, but for the residual blocks.
  D has no sigmoid, and one linear layer on its last maps, so that images of any size will do.
  Weights begin as PyTorch's do, not with a standard deviation of 0.02.
- One learning rate, which falls to zero where ``decay_steps`` says so, and no stages.
- Which answers are distilled is not known; probabilities here, or labels alone.
- ``conditioned``: G also sees f's maps of the clean image and its answer, and the finished attack
  carries its own copy of f. That is ours, after AdvGAN++, Mangla, Jandial, Varshney,
  Balasubramanian, 2019, https://arxiv.org/abs/1908.00706, whose generator is fed with the
  classifier's features. Where f's gradient is another for each image, G then need not learn anew
  what f sees in it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spearshield.architecture import Architecture
from spearshield.losses.gan import least_squares
from spearshield.losses.margin import margin_loss
from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen, minimise
from spearshield.nets.adv_gan import Discriminator, PerturbationGenerator
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel, norm2
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.optim import cosine
from spearshield.types import Classifier, Images, Labels, Logits, Scalar


@dataclass(frozen=True)
class AdvGAN(Method):
    """Hyper-parameters of AdvGAN.

    Args:
        threat: The budget of the perturbation. The default is the paper's for MNIST.
        width: Channels of the first convolutions; deeper ones have two and four times as many.
        gan_weight: Weight of the discriminator's opinion.
        attack_weight: Weight of the classifier's error.
        size_weight: Weight of the perturbation's size.
        norm_hinge: L2 norm from which on size costs, on the [0, 1] scale.
        kappa: Margin of logits beyond which an image that fools pulls no more.
        target: The class that images are to be taken for; ``None``: any wrong one.
        clip: Whether the perturbation is held inside ``threat`` in training too.
        informed: Whether G sees the maps and the probabilities that f, or its student, makes of the
            image. The attack then carries a copy of that, and still asks the victim nothing.
        lr: Learning rate of all Adams.
        decay_steps: Steps over which that of G and D falls to zero along a half cosine, and the
            student's stays; 0: all stay.
        student: What learns the answers of the task's classifier, which then is a black box;
            ``None``: that is differentiated itself.
        student_steps: Steps in which only the student learns, from clean images.
        labels_only: Whether it sees labels in place of probabilities.

    Raises:
        ValueError: A number is out of its range.
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
        require(
            self, "gan_weight", "attack_weight", "size_weight", "norm_hinge", "kappa", at_least=0
        )
        require(self, "lr", "decay_steps", "student_steps", at_least=0)

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
        self.f = Differentiable(task, method.student, method.labels_only)
        if method.conditioned:
            self.G.inform(self.f.own())
        self.opt_g = torch.optim.Adam(self.G.generator.parameters(), method.lr)
        self.opt_d = torch.optim.Adam(self.D.parameters(), method.lr)
        if method.student:
            self.opt_f = torch.optim.Adam(self.f.parameters(), method.lr)
        self.register_buffer("taken", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        method, taken = self.method, int(self.taken)
        self.taken += 1
        if method.student and taken < method.student_steps:
            return self.distil(x)
        for optimiser in (self.opt_g, self.opt_d):
            optimiser.param_groups[0]["lr"] = cosine(method.lr, taken, method.decay_steps)
        losses, x_adv = self.step_gan(x, y)
        return {**losses, **self.distil(torch.cat([x, x_adv]))} if method.student else losses

    def step_gan(self, x: Images, y: Labels) -> tuple[Mapping[str, float], Images]:
        method, G, D, f = self.method, self.G.train(), self.D.train(), self.f.model()
        x_adv = G(x)

        # D: clean images up, perturbed ones down.
        loss_d = least_squares(D(x), real=True) + least_squares(D(x_adv.detach()), real=False)
        minimise(self.opt_d, loss_d)

        # G: taken for clean, taken for another class, and small.
        logits = f(x_adv)
        attack = error_loss(logits, y, method.target, method.kappa)
        size = size_loss(x_adv, x, method.norm_hinge)
        minimise(
            self.opt_g,
            method.gan_weight * least_squares(D(x_adv), real=True)
            + method.attack_weight * attack
            + method.size_weight * size,
        )
        losses = {"d": loss_d, "attack": attack, "size": size}
        success = succeeds(logits.detach(), y, method.target)
        return {**{k: v.item() for k, v in losses.items()}, "success": success}, x_adv.detach()

    def distil(self, x: Images) -> Mapping[str, float]:
        """The student takes a step towards the black box's answers."""
        loss = self.f.distance(x)
        minimise(self.opt_f, loss)
        return {"distillation": loss.item(), "queries": self.f.queries.item()}

    def outcome(self) -> Outcome:
        queries = int(self.f.queries)
        attack = LearnedAttack(self.method.threat, self.G.eval(), queries=queries)
        return Outcome(self.task.classifier, attack=attack, queries=queries)


class Differentiable(nn.Module):
    """What stands for the task's classifier: itself, or a student where it is a black box.

    ``queries`` counts the images that a black box was asked about, each as often as it was.
    """

    queries: Tensor

    def __init__(self, task: Task, student: Architecture | None, labels_only: bool) -> None:
        super().__init__()
        self.task = task
        self.labels_only = labels_only
        self.student = student.build(task.shape, task.classes) if student else None
        self.register_buffer("queries", torch.tensor(0))

    def model(self) -> Classifier:
        """As a function, of which only the input is differentiated."""
        return frozen(self.student or self.task.classifier)

    def own(self) -> nn.Module:
        """The student itself; without one, a copy of the classifier that nobody trains."""
        return self.student or copy.deepcopy(self.task.classifier).requires_grad_(False)

    def distance(self, x: Images) -> Scalar:
        """Cross-entropy of the student's answers with the black box's."""
        assert self.student is not None
        with torch.no_grad():
            answers = self.task.classifier.eval()(x)
        self.queries += len(x)
        wanted = answers.argmax(1) if self.labels_only else answers.softmax(1)
        loss: Tensor = cross_entropy(self.student.train()(x), wanted)
        return loss


def error_loss(logits: Logits, y: Labels, target: int | None, kappa: float) -> Scalar:
    """How far the classifier is from the error that is wanted of it."""
    if target is None:
        return (-margin_loss(logits, y)).clamp(min=-kappa).mean()
    return margin_loss(logits, torch.full_like(y, target)).clamp(min=-kappa).mean()


def size_loss(x_adv: Images, x: Images, free: float) -> Scalar:
    """By how much perturbations are longer than ``free``, on average."""
    return (norm2(x_adv - x) - free).clamp(min=0).mean()


def succeeds(logits: Logits, y: Labels, target: int | None) -> float:
    """The share of images that are taken for the target, or a wrong class; without the target's."""
    if target is None:
        return (logits.argmax(1) != y).float().mean().item()
    others = y != target
    return (logits[others].argmax(1) == target).float().sum().item() / max(int(others.sum()), 1)


def check_target(target: int | None, classes: int) -> None:
    """Refuse a target that is no class.

    Raises:
        ValueError: Gives the classes there are.
    """
    if target is not None and not 0 <= target < classes:
        raise ValueError(f"target must be a class from 0 to {classes - 1} or none, got {target}")
