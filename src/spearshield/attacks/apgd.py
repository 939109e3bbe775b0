"""APGD: projected gradient descent that sets its own step size.

Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2020. https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from spearshield.attack import Attack, check_gradient
from spearshield.losses.margin import cross_entropy, dlr, margin_loss, targeted_dlr
from spearshield.rng import Rng
from spearshield.types import Classifier, Column, Ids, Images, Labels, Logits, Mask, PerImage

OBJECTIVES = {"ce": cross_entropy, "dlr": dlr, "margin": margin_loss}
MOMENTUM = 0.75
"""The share of the new step; the rest repeats the last one."""


@dataclass(frozen=True)
class APGD(Attack):
    """Steps with momentum, ``2 * eps`` long at first, and half as long where they stop helping.

    This is Algorithm 1 from a random start, with a step size for each image. An image that no run
    breaks comes back as the best point of the run that came nearest to breaking it.

    Args:
        loss: What is raised: ``ce`` cross-entropy, ``dlr`` difference of logits ratio (at least
            three classes), ``margin`` its numerator. Plays no part if there are ``targets``.
        targets: Other classes to head for, one run each, those with the highest logits on the
            clean image, with the targeted DLR loss (at least four classes); 0: one run, untargeted.
        steps: Gradient steps in each run.
        restarts: Runs per target, at most; an image that has been broken is not started again.
        last_runs: Further runs of twice the steps, each towards the class that the best run so far
            came nearest to. They cost less than another round over all targets and find more. Not
            part of the paper's attack.
        rho: The share of steps that must raise the loss for the step size to stay.
        early_stop: An image leaves as soon as the model errs on it, with the first iterate that
            does, an image that the model gets wrong as it is at once. Off, as a random model needs
            it: every image takes every step of every run, and what counts is the loss alone.

    Raises:
        ValueError: ``loss`` is unknown, ``targets`` or ``last_runs`` is negative, or there are last
            runs without targets; ``steps`` or ``restarts`` is not positive, or ``rho`` is not in
            [0, 1]; when called: the model has too few classes.
    """

    loss: Literal["ce", "dlr", "margin"] = "ce"
    targets: int = 0
    steps: int = 100
    restarts: int = 1
    last_runs: int = 0
    rho: float = 0.75
    early_stop: bool = True

    def __post_init__(self) -> None:
        if self.loss not in OBJECTIVES:
            raise ValueError(f"loss must be one of {', '.join(OBJECTIVES)}, got {self.loss!r}")
        if self.targets < 0:
            raise ValueError(f"targets must be at least 0, got {self.targets}")
        if self.last_runs < 0 or self.last_runs > 0 == self.targets:
            raise ValueError(
                f"last_runs must be at least 0, and 0 without targets, got {self.last_runs} "
                f"with {self.targets} targets"
            )
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(
                f"steps and restarts must be at least 1, got {self.steps} and {self.restarts}"
            )
        if not 0 <= self.rho <= 1:
            raise ValueError(f"rho must be a share, from 0 to 1, got {self.rho}")

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        with torch.no_grad():
            logits = model(x)
        best, nearest = x.clone(), torch.full_like(logits[:, 0], -math.inf)
        target_classes = self._target_classes(logits, y)
        towards, left = target_classes[0].clone(), torch.arange(len(x), device=x.device)
        for run, rival in enumerate((*target_classes, *(towards,) * self.last_runs)):
            if self.early_stop:
                left = left[logits.argmax(1) == y[left]]
            if len(left) == 0:
                break
            steps = self.steps if run < len(target_classes) else 2 * self.steps
            x_adv = self._climb(model, x[left], y[left], rival[left], rng[left].fold(run), steps)
            with torch.no_grad():
                logits = model(x_adv)
            reached = margin_loss(logits, y[left])
            better = reached >= nearest[left]
            best[left[better]], nearest[left[better]] = x_adv[better], reached[better]
            towards[left[better]] = _others(logits, y[left]).argmax(1)[better]
        return best

    def _target_classes(self, logits: Logits, y: Labels) -> tuple[Labels, ...]:
        """The class that each run heads for; an untargeted run does not look at it."""
        count = min(max(self.targets, 1), logits.shape[1] - 1)
        return _others(logits, y).topk(count).indices.repeat_interleave(self.restarts, 1).unbind(1)

    def _climb(
        self, model: Classifier, x: Images, y: Labels, rival: Labels, rng: Rng, steps: int
    ) -> Images:
        """One run: of each image the iterate that fooled, else that of highest loss."""
        found, left = torch.empty_like(x), torch.arange(len(x), device=x.device)
        climb = self._set_out(model, x, y, rival, rng)
        windows = checkpoints(steps)
        for step in range(steps + 1):
            if step > 0:
                self._step(model, climb, 1.0 if step == 1 else MOMENTUM)
            if self.early_stop and climb.wrong.any():
                found[left[climb.wrong]] = climb.x_now[climb.wrong]
                keep = (~climb.wrong).nonzero().squeeze(1)
                if len(keep) == 0:
                    return found
                left, climb = left[keep], climb.keep(keep)
            if step in windows:
                climb.check(self.rho * windows[step])
        found[left] = climb.x_best
        return found

    def _set_out(
        self, model: Classifier, x: Images, y: Labels, rival: Labels, rng: Rng
    ) -> APGDState:
        start = self.threat.project(x + self.threat.sample_perturbation(x, rng), x)
        loss, gradient, wrong = self._look(model, start, y, rival)
        return APGDState(
            x=x,
            y=y,
            rival=rival,
            x_now=start,
            x_last=start,
            gradient=gradient,
            loss=loss,
            wrong=wrong,
            x_best=start.clone(),
            gradient_best=gradient.clone(),
            highest=loss.clone(),
            size=torch.full_like(start[:, :1, :1, :1], 2 * self.threat.eps),
            rises=torch.zeros_like(y),
            highest_then=loss.clone(),
            halved=torch.zeros_like(wrong),
        )

    def _step(self, model: Classifier, climb: APGDState, share: float) -> None:
        """A step of projected ascent, of which ``share`` is taken, and the last one's rest."""
        x, x_now = climb.x, climb.x_now
        target = self.threat.project(
            x_now + climb.size * self.threat.steepest_step(climb.gradient), x
        )
        move = share * (target - x_now) + (1 - share) * (x_now - climb.x_last)
        x_new = self.threat.project(x_now + move, x)
        climb.update(x_new, *self._look(model, x_new, climb.y, climb.rival))

    def _look(
        self, model: Classifier, x: Images, y: Labels, rival: Labels
    ) -> tuple[PerImage, Images, Mask]:
        """Each image's loss, its gradient, and whether the model errs, in one pass."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = model(x)
            if self.targets > 0:
                loss = targeted_dlr(logits, y, rival)
            else:
                loss = OBJECTIVES[self.loss](logits, y)
            (gradient,) = torch.autograd.grad(loss.sum(), x)
        check_gradient(gradient)
        return loss.detach(), gradient, logits.detach().argmax(1) != y


@dataclass
class APGDState:
    """Where each image of a run is, and what it remembers."""

    x: Images
    y: Labels
    rival: Labels
    x_now: Images
    x_last: Images
    gradient: Images
    loss: PerImage
    wrong: Mask
    x_best: Images
    gradient_best: Images
    highest: PerImage
    size: Column
    rises: Int[Tensor, "n"]
    highest_then: PerImage
    halved: Mask

    def keep(self, index: Ids) -> APGDState:
        """The same run of some of the images."""
        return APGDState(*(getattr(self, field.name)[index] for field in fields(self)))

    def update(self, x_new: Images, loss: PerImage, gradient: Images, wrong: Mask) -> None:
        """Take note of the next iterate."""
        self.rises += loss > self.loss
        self.x_last, self.x_now = self.x_now, x_new
        self.loss, self.gradient, self.wrong = loss, gradient, wrong
        better = (loss > self.highest).nonzero().squeeze(1)
        self.x_best[better] = x_new[better]
        self.gradient_best[better] = gradient[better]
        self.highest[better] = loss[better]

    def check(self, enough: float) -> None:
        """At a checkpoint: halve the step where it stopped helping, and go on from the best point.

        That is where too few steps raised the loss (condition 1), or where the step was not halved
        last time and the highest loss has not grown since (condition 2).
        """
        stuck = ~self.halved & (self.highest == self.highest_then)
        self.halved = (self.rises < enough) | stuck
        back = self.halved[:, None, None, None]
        self.size = torch.where(back, self.size / 2, self.size)
        self.x_now = torch.where(back, self.x_best, self.x_now)
        self.gradient = torch.where(back, self.gradient_best, self.gradient)
        self.loss = torch.where(self.halved, self.highest, self.loss)
        self.highest_then = self.highest.clone()
        self.rises = torch.zeros_like(self.rises)


def _others(logits: Logits, y: Labels) -> Logits:
    """The logits with that of the label out of the way."""
    return logits.scatter(1, y[:, None], -math.inf)


def checkpoints(steps: int) -> dict[int, int]:
    """The steps after which the step size is reviewed, each with the number since the one before.

    In hundredths of ``steps`` and rounded up: 22, then ever sooner, by 3 less but no less than 6.
    """
    windows, last, share, gap = {}, 0, 22, 22
    while share <= 100:
        step = -(-share * steps // 100)
        if step > last:
            windows[step] = step - last
        last, gap = step, max(gap - 3, 6)
        share += gap
    return windows
