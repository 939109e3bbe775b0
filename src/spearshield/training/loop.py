"""The training loop, which saves its state so that a training can be resumed at any step.

A step is a function of the state of the learner, the number of the step and the seed. These
determine the order of the data, the randomness of the images and torch's global generator, so a
resumed training ends with the same weights as a training without interruption.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from spearshield.adversary import Attack
from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.method import Learner, Method, Task
from spearshield.progress import Interrupted, Progress, ProgressBar, no_bar, no_progress
from spearshield.ranges import require
from spearshield.rng import ambient, repeated
from spearshield.storage import checkpoint
from spearshield.storage.serialization import field_of
from spearshield.storage.weights import not_finite
from spearshield.training.augmentation import Augmentation
from spearshield.training.batches import batches
from spearshield.training.loss_log import LossLog
from spearshield.training.precomputed_attack import PrecomputedAttack, precompute_attack
from spearshield.training.stop_flag import stop_flag

CHECKPOINT = "checkpoint.safetensors"
ATTACKED = "attacked"
MOST_STEPS = 10**9
MOST_REPLICATES = 9_999
MOST_LR = 1e6
"""Highest learning rate; far above it, a step overflows the numbers of the weights."""

SAVE_EVERY = 60.0
"""Seconds between checkpoints."""


@dataclass(frozen=True)
class Training:
    """A method, and the data and the number of steps that it is trained with.

    Args:
        steps: Number of batches.
        learn_from: The attack that the method is trained on, for methods that need one.
        batch_size: Images per batch; the last batch of an epoch is dropped if it is smaller.
        trained_on: Name of an earlier defence of the recipe. The method is then given that
            defended classifier; empty: the bare classifier.
        split: The training images; ``validation`` for an attacker without access to the images that
            the victim was trained on.
        name: Name in the recipe; empty: the method's name.
        precompute: If true, each training image is attacked once, before the first step; else
            images are attacked at each step.
        replicate: Number of an independent repetition: its initial weights, the order of its data
            and its randomness are its own; 0: those of the seed.
        augmentation: Random changes of the images of each batch.

    Raises:
        ValueError: A number is out of range, ``split`` is unknown, or ``name`` cannot be the name
            of a folder.
    """

    method: Method
    steps: int
    learn_from: Attack | None = None
    batch_size: int = 128
    trained_on: str = ""
    split: Literal["train", "validation"] = "train"
    name: str = ""
    precompute: bool = False
    replicate: int = 0
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_~-]{0,100}", self.name):
            raise ValueError(
                f"name takes at most 100 letters, digits, _, ~ and -, got {self.name[:120]!r}"
            )
        require(self, "steps", at_least=0, at_most=MOST_STEPS)
        require(self, "batch_size", at_least=1)
        require(self, "replicate", at_least=0, at_most=MOST_REPLICATES)
        require(self, "split", one_of=("train", "validation"))
        if self.precompute and self.augmentation:
            raise ValueError("images that are attacked once cannot change; unset augmentation")

    @property
    def display_name(self) -> str:
        """``name``, or the method's name; repetition 1 of ``dae`` is ``dae~2``."""
        name = self.name or name_of(self.method)
        return f"{name}~{self.replicate + 1}" if self.replicate else name

    def rehearsal(self, task: Task) -> Task:
        """The task before its images are attacked, if they are attacked before the first step."""
        if not (self.precompute and task.learn_from):
            return task
        return replace(task, learn_from=PrecomputedAttack.empty(task.learn_from))

    def seed(self, seed: int) -> int:
        """The seed of this repetition, given the seed of all trainings."""
        return repeated(seed, self.replicate)


def train(
    training: Training,
    task: Task,
    examples: Callable[[], Examples],
    *,
    seed: int,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = no_progress,
    finished: bool = False,
) -> Learner:
    """A learner of ``training.method`` after all its steps.

    Args:
        examples: Returns the training images; not called if no step is left.
        seed: The seed of all trainings; the seed of a repetition follows from it.
        folder: Folder to save to and to resume from; ``None``: nothing is saved.
        progress: Opens the bars of the training and of the attack on its training images.
        finished: If true, raise instead of taking a step.

    Raises:
        ValueError: ``finished`` is true but steps are left; also see :func:`check_trainable` and
            :func:`fit`.
    """
    seed = training.seed(seed)
    learner = _fresh(training.method, training.rehearsal(task), seed, device)
    taken = resume(learner, folder) if folder else 0
    if finished and taken < training.steps:
        copied = f", or copy its {CHECKPOINT} too if it was trained elsewhere"
        raise ValueError(
            f"{folder} has taken {taken:,} of {training.steps:,} steps; finish it first: "
            f"run its recipe again in the folder above{'' if taken else copied}"
        )
    if finished or taken >= training.steps > 0:
        progress(f"load {training.display_name}", taken)(taken, {})
        return learner
    images = examples()
    check_trainable(training, learner, len(images))
    if training.precompute:
        attacked = precompute_attack(
            task.attack,
            task.classifier,
            images,
            seed=seed,
            batch_size=training.batch_size,
            folder=folder / ATTACKED if folder else None,
            device=device,
            bar=progress(f"attack the training images of {training.display_name}", len(images)),
        )
        learner = _fresh(training.method, replace(task, learn_from=attacked), seed, device)
    fit(
        learner,
        images,
        steps=training.steps,
        batch_size=training.batch_size,
        seed=seed,
        folder=folder,
        device=device,
        bar=progress(f"train {training.display_name}", training.steps),
        augmentation=training.augmentation,
    )
    return learner


def check_trainable(training: Training, learner: Learner, images: int) -> None:
    """Raise if a training cannot succeed, which is known before its first step.

    Args:
        learner: The learner of the method.
        images: Number of training images.

    Raises:
        ValueError: There are fewer images than ``batch_size``; the batches have one image and the
            method normalises over a batch; a learning rate is above :data:`MOST_LR`; there are too
            few steps for networks with fresh weights; or there are steps for a method that is not
            trained.
    """
    name, batch = training.display_name, training.batch_size
    if batch > images:
        raise ValueError(
            f"batch_size of {name} is {batch} but there are {images} images; choose at most "
            f"{images}"
        )
    if learner.highest_lr > MOST_LR:
        raise ValueError(
            f"the learning rate of {name} is {learner.highest_lr:g}; choose at most {MOST_LR:g}"
        )
    layers = [layer for layer in learner.modules() if isinstance(layer, _BatchNorm)]
    if batch == 1 and any(layer.training for layer in layers):
        raise ValueError(f"{name} normalises over a batch; batch_size must be at least 2, got 1")
    if training.steps < learner.least_steps:
        raise ValueError(
            f"steps of {name} is {training.steps}, so a network would keep random weights; choose "
            f"at least {learner.least_steps}"
        )
    if training.steps > 0 and not training.method.trained:
        raise ValueError(
            f"{name} is a fixed transformation, which needs no training; set steps to 0, got "
            f"{training.steps}"
        )


def _fresh(method: Method, task: Task, seed: int, device: torch.device | str) -> Learner:
    with ambient(seed):
        learner = method.learner(task)
    learner.to(device)
    for network in (learner, task.classifier):  # with channels last, pooling is faster
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return learner


def fit(
    learner: Learner,
    examples: Examples,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    bar: ProgressBar = no_bar,
    augmentation: Augmentation | None = None,
) -> None:
    """Train ``learner`` until it has taken ``steps`` steps.

    Args:
        folder: Folder to save to and to resume from; ``None``: nothing is saved.
        bar: Called after each step with the number of steps taken and the losses.
        augmentation: Random changes of the images of each batch; ``None``: none.

    Raises:
        Interrupted: The process received SIGINT or SIGTERM; the state has been saved.
        ValueError: The checkpoint is corrupt or belongs to another architecture, or a loss is not
            finite.
    """
    done = resume(learner, folder) if folder else 0
    bar(done, {})
    before = cpu_seconds(folder) if folder else 0.0
    shown = batches(examples, batch_size, seed, done, steps, device, augmentation)
    saved, started = time.monotonic(), time.process_time()

    def save(taken: int) -> None:
        log.flush()
        if folder:
            spent = before + time.process_time() - started
            tree = {"steps": taken, "cpu_seconds": spent, "state": learner.state_dict()}
            checkpoint.save(folder / CHECKPOINT, tree)

    with stop_flag() as stop, LossLog(folder, done) as log:
        for step, x, y, rng in shown:
            with ambient(seed, step):
                losses = learner.step(x, y, rng=rng)
            _check_finite(step, losses)
            log(step, losses)
            bar(step + 1, losses)
            if stop.is_set() or time.monotonic() - saved > SAVE_EVERY:
                save(step + 1)
                saved = time.monotonic()
            if stop.is_set():
                where = f"; saved in {folder}, run it again to go on" if folder else ""
                raise Interrupted(f"stopped after step {step + 1} of {steps}{where}")
        if steps > done:
            save(steps)


def resume(learner: Learner, folder: Path) -> int:
    """The number of steps of the checkpoint in ``folder``, which is loaded; 0 without one.

    Raises:
        ValueError: The checkpoint is corrupt, or belongs to another architecture.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    saved = checkpoint.load(path)
    try:
        steps = field_of(saved, "steps", int)
        learner.load_state_dict(saved["state"])
        if bad := not_finite(dict(learner.named_parameters())):
            raise ValueError(bad)
        if steps < 0:
            raise ValueError(f"steps is {steps}")
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        first = str(error).strip().splitlines()[:2]
        raise ValueError(
            f"{path} does not fit this method and classifier ({' '.join(first)}); "
            "use another folder, or the settings it was made with"
        ) from error
    return int(steps)


def cpu_seconds(folder: Path) -> float:
    """Processor time of the steps so far of the training in ``folder``, over all its processes.

    Attacks on the training images before the first step are not included. 0 without a checkpoint,
    or if an earlier version wrote it.
    """
    path = folder / CHECKPOINT
    return float(checkpoint.load(path).get("cpu_seconds", 0.0)) if path.exists() else 0.0


def _check_finite(step: int, losses: Mapping[str, float]) -> None:
    bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
    if bad:
        raise ValueError(
            f"losses at step {step} are not finite: {bad}; the last checkpoint is from an earlier "
            "step; decrease the learning rate"
        )
