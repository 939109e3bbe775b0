"""Adversarial training from learned starting points: a generator, then gradient steps.

    f  classifier   image -> logits                    the defence
    G  generator    (image, noise) -> image in the threat model
    r  gradient steps, of length s

    x_0     = G(x, z); those with the highest CE(f(x_0), y), if only a share is trained on
    x_(k+1) = x_k + s sign(gradient of CE(f(x_k), y) in x_k), projected;    x_adv = x_r
    L_G = -CE(f(x_0), y)
    L_f = CE(f(x_adv), y)                                        cross-entropy
    L_f = CE(f(x), y) + beta KL(f(x) || f(x_adv))                trades

One backward pass of CE(f(x_0), y) gives the update of G and the first gradient step, so a batch
takes max(1, r) gradients of f for its adversarial images and one for the update of f.

It is new here, and answers a weakness of

Wang, Yu, "A Direct Approach to Robust Deep Learning Using Adversarial Networks", 2019,
https://arxiv.org/abs/1905.09591:

a generator is trained on the classifier as it was, gives one perturbation for each image, and the
classifier overfits to it. A gradient step is taken on the classifier as it is now. Noise, several
generators, and copies of the generator from earlier steps (replay) give an image different
perturbations.

Differences from the paper. Everything but the two players: one step of G for each step of f,
gradient steps, noise, several generators, replay, training on the hardest images (Jiang et al.,
2019, https://arxiv.org/abs/1910.00762), the divergence of TRADES (Zhang et al., 2019,
https://arxiv.org/abs/1901.08573), Adam for G, and no clean images in the cross-entropy.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from spearshield.adversary import loss_gradient
from spearshield.losses.kl import kl_divergence
from spearshield.losses.margin import LOSSES
from spearshield.method import Outcome, Paper, Task
from spearshield.nets.wang_yu import GENERATORS, WangYuGenerator
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel
from spearshield.training.classifier_training import (
    AdversarialTraining,
    ClassifierLearner,
    accuracy,
    shrunk,
)
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.optim import minimise, set_lr
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class LearnedAdversary(AdversarialTraining):
    """Hyper-parameters; further settings are those of ``AdversarialTraining``.

    Args:
        threat: The threat model of the adversary.
        generator: ``convolutional`` or ``residual``, see ``GANAdversarialTraining``.
        width: Channels of the generator's first convolution.
        generators: Number of generators; each image of a batch goes to one of them at random.
        noise: If true, a generator also receives a channel of noise.
        replay: Number of earlier copies of the generators that are kept. They make the starting
            points of half of the images.
        replay_every: Steps between copies.
        gradient_steps: Number r of gradient steps.
        step_size: Length s of a gradient step, in units of eps.
        hardest: Share of a batch, in (0, 1], that both players train on: the images whose starting
            points have the highest loss.
        generator_lr: Learning rate of the generator's Adam; it decays with the classifier's.
        loss: ``cross_entropy`` or ``trades``.
        beta: Weight of the divergence, for ``trades``.

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
    width: int = 16
    generators: int = 1
    noise: bool = True
    replay: int = 0
    replay_every: int = 100
    gradient_steps: int = 1
    step_size: float = 1.0
    hardest: float = 1.0
    generator_lr: float = 1e-3
    loss: Literal["cross_entropy", "trades"] = "cross_entropy"
    beta: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        ThreatModel.check(self.threat)
        require(self, "generator", one_of=GENERATORS)
        require(self, "loss", one_of=("cross_entropy", "trades"))
        require(self, "width", "generators", "replay_every", at_least=1)
        require(self, "replay", "gradient_steps", "generator_lr", "beta", at_least=0)
        require(self, "step_size", above=0)
        require(self, "hardest", above=0, at_most=1)

    def learner(self, task: Task) -> LearnedAdversaryLearner:
        return LearnedAdversaryLearner(self, task)


class LearnedAdversaryLearner(ClassifierLearner):
    def __init__(self, method: LearnedAdversary, task: Task) -> None:
        super().__init__(method, task)
        self.G = Generators(method, task.shape[0], method.generators)
        self.earlier = Generators(method, task.shape[0], method.replay)
        self.opt_g = torch.optim.Adam(self.G.parameters(), method.generator_lr)

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        method, f = self.method, self.attacked()
        threat = shrunk(method.threat, self.share)
        set_lr(method.generator_lr * self.decay, self.opt_g)

        if method.hardest < 1:
            with torch.no_grad():
                hard = self.hardest(self.start(x, rng), y, method.hardest)
            x, y, rng = x[hard], y[hard], rng[hard]

        # G: max of CE(f(x_0), y); the same backward pass gives the first gradient step.
        x_0 = self.start(x, rng).requires_grad_()  # all of it may come from earlier copies
        x_0.retain_grad()
        loss_g = -cross_entropy(f(x_0), y)
        minimise(self.opt_g, loss_g)
        assert x_0.grad is not None
        x_adv, ascent = x_0.detach(), -x_0.grad
        for number in range(method.gradient_steps):
            if number > 0:
                ascent = loss_gradient(f, x_adv, y, LOSSES["cross_entropy"]).gradient
            x_adv = threat.step(x_adv, x, ascent, method.step_size * threat.eps)

        watched = self.watched(x, y, x_adv, threat, rng)

        # f: min over theta.
        if method.loss == "trades":
            clean, adversarial = self.logits(torch.cat([x, x_adv])).chunk(2)
            divergence = kl_divergence(clean, adversarial).mean()
            loss = cross_entropy(clean, y) + method.beta * divergence
        else:
            adversarial = self.logits(x_adv)
            loss = cross_entropy(adversarial, y)
        self.minimise(loss)
        self.keep()
        return {
            "generator": -loss_g.item(),
            "loss": loss.item(),
            "adversarial": accuracy(adversarial, y),
            **watched,
        }

    def start(self, x: Images, rng: Rng) -> Images:
        """The starting points: of the generators, and for half of the images of earlier copies.

        Which half is drawn for each image, so it stays with the image if its batch changes.
        """
        kept = min(self.method.replay, int(self.taken) // self.method.replay_every)
        if kept == 0:
            made: Images = self.G.train()(x, rng, self.share)
            return made
        replayed = rng.fold(2).integers((), 2) == 0
        old, new = replayed.nonzero()[:, 0], (~replayed).nonzero()[:, 0]
        with torch.no_grad():
            x_0 = x.index_copy(0, old, self.earlier.train()(x[old], rng[old], self.share, kept))
        return x_0.index_copy(0, new, self.G.train()(x[new], rng[new], self.share))

    @torch.no_grad()
    def keep(self) -> None:
        """Every ``replay_every`` steps, copy a generator to the next place of the earlier ones."""
        number, rest = divmod(int(self.taken), self.method.replay_every)
        if self.method.replay and rest == 0:
            source = self.G.networks[number % self.method.generators]
            place = self.earlier.networks[(number - 1) % self.method.replay]
            place.load_state_dict(copy.deepcopy(source.state_dict()))

    def outcome(self) -> Outcome:
        attack = LearnedAttack(self.method.threat, self.G.eval())
        return replace(super().outcome(), attack=attack)


class Generators(nn.Module):
    """Generators of adversarial images, one of which is drawn for each image.

    Args:
        count: Number of generators.
    """

    def __init__(self, method: LearnedAdversary, channels: int, count: int) -> None:
        super().__init__()
        self.noise = method.noise
        self.networks = nn.ModuleList(
            WangYuGenerator(
                method.generator, channels, method.width, method.threat, more=int(method.noise)
            )
            for _ in range(count)
        )

    def forward(
        self, x: Images, rng: Rng | None = None, share: float = 1.0, first: int | None = None
    ) -> Images:
        """Adversarial images.

        Args:
            rng: Randomness of the images; ``None``: it follows from the pixels.
            share: Factor of eps.
            first: Number of generators to draw from; ``None``: all.
        """
        rng = rng or Rng.of_content(0, x)
        noise = rng.fold(1).uniform((1, *x.shape[2:]), -1.0, 1.0).to(x) if self.noise else x[:, :0]
        if len(self.networks) == 1:
            made: Images = self.networks[0](x, noise, share=share)
            return made
        drawn = rng.fold(0).integers((), first or len(self.networks))
        x_adv = x.clone()
        for number, network in enumerate(self.networks):
            own = (drawn == number).nonzero()[:, 0]
            if len(own) > 0:
                x_adv = x_adv.index_copy(0, own, network(x[own], noise[own], share=share))
        return x_adv
