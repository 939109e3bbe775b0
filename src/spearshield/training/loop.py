"""The training loop: batches in, losses out, saved so that it can stop anywhere.

Every step is a function of the learner's state, the step's number and the seed. Data order,
the images' randomness and torch's global generator all follow from those, so a run that was
killed and started again ends with the weights it would have had.
"""

from __future__ import annotations

import json
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch

from spearshield.attack import Attack
from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.method import Learner, Method, Task
from spearshield.progress import Progress, ProgressBar, no_bar, no_progress
from spearshield.rng import Rng, ambient, permutation
from spearshield.storage import checkpoint
from spearshield.storage.atomic import write_atomically
from spearshield.training.precomputed_attack import precompute_attack

CHECKPOINT = "checkpoint.safetensors"
LOSSES = "losses.jsonl"
ATTACKED = "attacked"


class Interrupted(Exception):  # noqa: N818 - an event, not a fault
    """A signal asked the run to stop; its state has been saved."""


@dataclass(frozen=True)
class Training:
    """A method and how long it learns.

    Args:
        steps: Batches shown, in all.
        learn_from: The attack it learns from, for methods that learn from one.
        batch_size: Images a batch; the last, smaller batch of an epoch is dropped.
        against: The name of an earlier defence of the recipe. The method is given its victim,
            purifier and all, in place of the bare classifier.
        split: Where its images come from: ``validation`` for an attacker who owns none that the
            victim has learnt.
        name: What it is called in its recipe; empty: as its method.
        once: Whether each training image is attacked once, before the first step, and those images
            are kept and shown ever after; else anew at each step.

    Raises:
        ValueError: A number is out of its range, or ``name`` is no name for a folder.
    """

    method: Method
    steps: int
    learn_from: Attack | None = None
    batch_size: int = 128
    trained_on: str = ""
    split: Literal["train", "validation"] = "train"
    name: str = ""
    precompute: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_~-]*", self.name):
            raise ValueError(f"name takes letters, digits, _, ~ and -, got {self.name!r}")
        if self.steps < 0 or self.batch_size < 1:
            raise ValueError(
                f"steps must be >= 0 and batch_size >= 1, got {self.steps} and {self.batch_size}"
            )

    @property
    def display_name(self) -> str:
        """Its name, by default that of its method."""
        return self.name or name_of(self.method)


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
    """A learner of ``training.method`` that has taken all its steps.

    Args:
        examples: Asked for the training images, unless all steps have been taken already.
        progress: Opens the bars of the training and of the attack on its training images.
        finished: Whether all steps must have been taken already.

    Raises:
        ValueError: They have not been; or see :func:`fit`.
    """
    learner = _fresh(training.method, task, seed, device)
    taken = resume(learner, folder) if folder else 0
    if finished and taken < training.steps:
        raise ValueError(
            f"{folder} has taken {taken:,} of {training.steps:,} steps; finish it first: "
            "run its recipe again in the folder above"
        )
    if finished or taken >= training.steps > 0:
        return learner
    shown = examples()
    if training.precompute:
        attacked = precompute_attack(
            task.attack,
            task.classifier,
            shown,
            seed=seed,
            folder=folder / ATTACKED if folder else None,
            device=device,
            bar=progress(f"attack the training images of {training.display_name}", len(shown)),
        )
        learner = _fresh(training.method, replace(task, learn_from=attacked), seed, device)
    fit(
        learner,
        shown,
        steps=training.steps,
        batch_size=training.batch_size,
        seed=seed,
        folder=folder,
        device=device,
        bar=progress(f"train {training.display_name}", training.steps),
    )
    return learner


def _fresh(method: Method, task: Task, seed: int, device: torch.device | str) -> Learner:
    with ambient(seed):
        learner = method.learner(task)
    learner.to(device)
    for parameter in learner.parameters():
        if parameter.dim() == 4:  # convolutions: pooling is several times faster in this format
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
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
    save_every: float = 60.0,
) -> None:
    """Take ``steps`` steps, or those that are left of them.

    Args:
        folder: Where to save and what to resume from; ``None``: keep nothing.
        bar: Called after each step with the number of steps taken and the losses.
        save_every: Seconds between checkpoints.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state has been saved.
        ValueError: The checkpoint is corrupt or of another architecture, a batch is larger than
            the data, or a loss is not finite.
    """
    if batch_size > len(examples):
        raise ValueError(f"batch_size is {batch_size} but there are {len(examples)} images")
    done = resume(learner, folder) if folder else 0
    pixels = examples.pixels.to(device)  # batches are cut where the learner works
    per_epoch = len(examples) // batch_size
    order, order_epoch = torch.empty(0, dtype=torch.long), -1
    saved = time.monotonic()

    def save(taken: int) -> None:
        log.flush()
        if folder:
            checkpoint.save(folder / CHECKPOINT, {"steps": taken, "state": learner.state_dict()})

    with _stop_flag() as stop, Log(folder, done) as log:
        for step in range(done, steps):
            epoch, batch = divmod(step, per_epoch)
            if epoch != order_epoch:
                order, order_epoch = permutation(len(examples), seed, epoch), epoch
            index = order[batch * batch_size : (batch + 1) * batch_size]
            x = pixels[index].float() / 255
            y = examples.y[index].to(device)
            rng = Rng(seed, examples.ids[index].to(device)).fold(step)
            with ambient(seed, step):
                losses = learner.step(x, y, rng=rng)
            _refuse_divergence(step, losses)
            log(step, losses)
            bar(step + 1, losses)
            if stop.is_set() or time.monotonic() - saved > save_every:
                save(step + 1)
                saved = time.monotonic()
            if stop.is_set():
                where = f"; saved in {folder}, run it again to go on" if folder else ""
                raise Interrupted(f"stopped after step {step + 1} of {steps}{where}")
        if steps > done:
            save(steps)


def resume(learner: Learner, folder: Path) -> int:
    """Load the learner's state from ``folder``, if there is any; how many steps it had taken.

    Raises:
        ValueError: The checkpoint is corrupt, or belongs to another architecture.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    saved = checkpoint.load(path)
    try:
        learner.load_state_dict(saved["state"])
    except (RuntimeError, KeyError, ValueError) as error:
        first = str(error).strip().splitlines()[:2]
        raise ValueError(
            f"{path} does not fit this method and classifier ({' '.join(first)}); "
            "use another folder, or the settings it was made with"
        ) from error
    steps: int = saved["steps"]
    return steps


def _refuse_divergence(step: int, losses: Mapping[str, float]) -> None:
    bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
    if bad:
        raise ValueError(
            f"losses at step {step} are not finite: {bad}; the last checkpoint is from before, "
            "lower the learning rate"
        )


class Log:
    """Losses of every step, as lines of JSON and for TensorBoard; knows where a resumed run is.

    Args:
        folder: Where to write; ``None``: nowhere.
        done: Steps taken already; lines of later ones, of a run that was killed, are dropped.
    """

    def __init__(self, folder: Path | None, done: int) -> None:
        self.folder = folder
        self.done = done

    def __enter__(self) -> Log:
        if self.folder:
            from tensorboardX import SummaryWriter  # noqa: PLC0415 - slow to import

            path = self.folder / LOSSES
            kept = path.read_bytes().splitlines(keepends=True)[: self.done] if self.done else []
            write_atomically(path, b"".join(kept))
            self.lines = path.open("a", encoding="utf-8")
            self.board: Any = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.done)
        return self

    def __call__(self, step: int, losses: Mapping[str, float]) -> None:
        if self.folder:
            self.lines.write(json.dumps({"step": step, **losses}) + "\n")
            for name, value in losses.items():
                self.board.add_scalar(name, value, step)

    def flush(self) -> None:
        """No line of a step that a checkpoint counts as taken may be lost."""
        if self.folder:
            self.lines.flush()

    def __exit__(self, *_: object) -> None:
        if self.folder:
            self.lines.close()
            self.board.close()


@contextmanager
def _stop_flag() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; the loop looks at it, saves and leaves."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
