"""APGD: projected gradient descent that sets its own step size.

Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2020. https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from spearshield.adversary import Attack, loss_gradient, unbroken
from spearshield.losses.margin import LOSSES, margin_loss, other_logits, targeted_dlr
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Column, Ids, Images, Labels, Logits, Loss, Mask, PerImage

MOMENTUM = 0.75
"""Weight of the new step; the previous step has weight ``1 - MOMENTUM``."""


@dataclass(frozen=True)
class APGD(Attack):
    """Gradient steps with momentum, whose size starts at ``2 * eps`` and is halved when they stall.

    Algorithm 1 from a random start, with a separate step size for each image. For an image that no
    run breaks, the result is the attempt with the largest margin loss.

    Args:
        loss: ``cross_entropy``, ``margin`` (highest other logit minus the true one) or ``dlr``
            (difference of logits ratio, at least three classes). Ignored if ``targets`` is set.
        targets: Number of target classes, in order of their logits on the clean image. Each is
            attacked with the targeted DLR loss (at least four classes). 0: an untargeted attack.
        steps: Number of gradient steps in each run.
        restarts: Maximum number of runs for each target. An image that one run has broken is not
            attacked again.
        last_runs: Number of further runs of ``2 * steps`` steps towards the class with the highest
            other logit in the best attempt so far; requires ``targets``. They cost less than
            another round over all targets and break more images. Not part of the paper's attack.
        rho: Fraction of steps, in [0, 1], that must increase the loss for the step size to stay.
        early_stop: Stop each image at its first misclassified iterate, and return an image that is
            misclassified from the start unchanged. Set it to False for a random model: every image
            then takes every step of every run, and only the loss selects the result.

    Raises:
        ValueError: ``loss`` is unknown, an argument is out of range, or ``last_runs`` is set
            without ``targets``; when called: the model has too few classes.
    """

    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy"
    targets: int = 0
    steps: int = 100
    restarts: int = 1
    last_runs: int = 0
    rho: float = 0.75
    early_stop: bool = True

    def __post_init__(self) -> None:
        require(self, "loss", one_of=LOSSES)
        require(self, "targets", "last_runs", at_least=0)
        require(self, "steps", "restarts", at_least=1)
        require(self, "rho", at_least=0, at_most=1)
        if self.last_runs > 0 == self.targets:
            raise ValueError(f"last_runs must be 0 without targets, got {self.last_runs}")

    @property
    def display_name(self) -> str:
        """``apgd_ce``, ``apgd_margin``, ``apgd_dlr`` or ``apgd_targeted_dlr``."""
        if self.targets:
            return "apgd_targeted_dlr"
        return "apgd_ce" if self.loss == "cross_entropy" else f"apgd_{self.loss}"

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = BestAttempts(model, x, y)
        runs = enumerate(self._runs(best))
        for (number, (target, steps)), left in unbroken(
            runs, x, best.is_broken if self.early_stop else None
        ):
            start = self.threat.random_start(x[left], rng[left].fold(number))
            best.add(left, self._run(model, x[left], y[left], target[left], start, steps))
        return best.x_adv

    def _runs(self, best: BestAttempts) -> Iterator[tuple[Labels, int]]:
        """Target class of each image and number of steps, for each run."""
        for target in self._target_classes(best.clean_logits, best.y):
            yield target, self.steps
        for _ in range(self.last_runs):
            yield best.runner_up, 2 * self.steps

    def _target_classes(self, logits: Logits, y: Labels) -> tuple[Labels, ...]:
        """The target of each run; an untargeted run ignores it."""
        count = min(max(self.targets, 1), logits.shape[1] - 1)
        targets = other_logits(logits, y).topk(count).indices
        return targets.repeat_interleave(self.restarts, 1).unbind(1)

    def _run(
        self,
        model: Classifier,
        x: Images,
        y: Labels,
        target: Labels,
        start: Images,
        steps: int,
    ) -> Images:
        """Algorithm 1: the misclassified iterate of each image, else the one of highest loss."""
        found, left = torch.empty_like(x), torch.arange(len(x), device=x.device)
        state = self._initial_state(model, x, y, target, start)
        windows = checkpoints(steps)
        for step in range(steps + 1):
            if step > 0:
                self._step(model, state, 1.0 if step == 1 else MOMENTUM)
            if self.early_stop and state.wrong.any():
                found[left[state.wrong]] = state.x_now[state.wrong]
                keep = (~state.wrong).nonzero().squeeze(1)
                if len(keep) == 0:
                    return found
                left, state = left[keep], state.keep(keep)
            if step in windows:
                state.at_checkpoint(self.rho * windows[step])
        found[left] = state.x_best
        return found

    def _initial_state(
        self, model: Classifier, x: Images, y: Labels, target: Labels, start: Images
    ) -> APGDState:
        loss, gradient, wrong = loss_gradient(model, start, y, self._loss(target))
        return APGDState(
            x=x,
            y=y,
            target=target,
            x_now=start,
            x_last=start,
            gradient=gradient,
            loss=loss,
            wrong=wrong,
            x_best=start.clone(),
            gradient_best=gradient.clone(),
            loss_best=loss.clone(),
            step_size=torch.full_like(start[:, :1, :1, :1], 2 * self.threat.eps),
            rises=torch.zeros_like(y),
            loss_best_before=loss.clone(),
            halved=torch.zeros_like(wrong),
        )

    def _step(self, model: Classifier, state: APGDState, momentum: float) -> None:
        """A projected gradient step with weight ``momentum``, and the last one with the rest."""
        x, x_now = state.x, state.x_now
        z = self.threat.step(x_now, x, state.gradient, state.step_size)
        move = momentum * (z - x_now) + (1 - momentum) * (x_now - state.x_last)
        x_new = self.threat.project(x_now + move, x)
        state.update(x_new, *loss_gradient(model, x_new, state.y, self._loss(state.target)))

    def _loss(self, target: Labels) -> Loss:
        if self.targets == 0:
            return LOSSES[self.loss]
        return lambda logits, y: targeted_dlr(logits, y, target)


@dataclass
class APGDState:
    """The iterate of each image of a run, and the quantities that set its step size."""

    x: Images
    y: Labels
    target: Labels
    x_now: Images
    x_last: Images
    gradient: Images
    loss: PerImage
    wrong: Mask
    x_best: Images
    gradient_best: Images
    loss_best: PerImage
    step_size: Column
    rises: Int[Tensor, " n"]
    loss_best_before: PerImage
    halved: Mask

    def keep(self, index: Ids) -> APGDState:
        """The state of some of the images."""
        return APGDState(*(getattr(self, field.name)[index] for field in fields(self)))

    def update(self, x_new: Images, loss: PerImage, gradient: Images, wrong: Mask) -> None:
        """Record the next iterate."""
        self.rises += loss > self.loss
        self.x_last, self.x_now = self.x_now, x_new
        self.loss, self.gradient, self.wrong = loss, gradient, wrong
        better = (loss > self.loss_best).nonzero().squeeze(1)
        self.x_best[better] = x_new[better]
        self.gradient_best[better] = gradient[better]
        self.loss_best[better] = loss[better]

    def at_checkpoint(self, required_rises: float) -> None:
        """Halve the step size of the images that stall, and return them to their best point.

        An image stalls if fewer than ``required_rises`` steps increased the loss (condition 1), or
        if the step size was not halved at the last checkpoint and the best loss has not grown since
        (condition 2).
        """
        stuck = ~self.halved & (self.loss_best == self.loss_best_before)
        self.halved = (self.rises < required_rises) | stuck
        back = self.halved[:, None, None, None]
        self.step_size = torch.where(back, self.step_size / 2, self.step_size)
        self.x_now = torch.where(back, self.x_best, self.x_now)
        self.gradient = torch.where(back, self.gradient_best, self.gradient)
        self.loss = torch.where(self.halved, self.loss_best, self.loss)
        self.loss_best_before = self.loss_best.clone()
        self.rises = torch.zeros_like(self.rises)


class BestAttempts:
    """The attempt with the largest margin loss, for each image, over several runs.

    Attributes:
        x_adv: The best attempts; the clean image before the first attempt.
        margin: Their margin losses.
        runner_up: The class with the highest logit other than ``y`` in the best attempt.
        broken: True for each image whose last attempt, or clean image, is misclassified.
        clean_logits: The logits of the clean images.
    """

    def __init__(self, model: Classifier, x: Images, y: Labels) -> None:
        self.model, self.y = model, y
        with torch.no_grad():
            self.clean_logits: Logits = model(x)
        self.x_adv = x.clone()
        self.margin = torch.full_like(self.clean_logits[:, 0], -math.inf)
        self.runner_up = other_logits(self.clean_logits, y).argmax(1)
        self.broken = self.clean_logits.argmax(1) != y

    def is_broken(self, index: Ids) -> Mask:
        """``broken`` for some of the images."""
        return self.broken[index]

    @torch.no_grad()
    def add(self, index: Ids, x_adv: Images) -> None:
        """Record an attempt on the images ``index``; costs one forward pass."""
        logits, y = self.model(x_adv), self.y[index]
        margin = margin_loss(logits, y)
        better = margin >= self.margin[index]
        kept = index[better]
        self.x_adv[kept], self.margin[kept] = x_adv[better], margin[better]
        self.runner_up[kept] = other_logits(logits, y).argmax(1)[better]
        self.broken[index] = logits.argmax(1) != y


def checkpoints(steps: int) -> dict[int, int]:
    """The steps at which the step size is reviewed, each with the number of steps since the last.

    In hundredths of ``steps``, rounded up: the first after 22, each further interval shorter by 3
    but not shorter than 6 (section 3.2).
    """
    windows, last, share, gap = {}, 0, 22, 22
    while share <= 100:
        step = -(-share * steps // 100)
        if step > last:
            windows[step] = step - last
        last, gap = step, max(gap - 3, 6)
        share += gap
    return windows
