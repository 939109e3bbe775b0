"""A training can be stopped at any step, and ends with the same weights."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch

from mutations import fails_under
from spearshield.dataset import Examples
from spearshield.method import Learner, Outcome, Task
from spearshield.methods.standard_training import StandardTraining
from spearshield.progress import Interrupted, ProgressBar, no_bar
from spearshield.rng import Rng, ambient
from spearshield.storage import checkpoint
from spearshield.training import batches, loop
from spearshield.training.augmentation import Augmentation
from spearshield.training.loop import (
    CHECKPOINT,
    Training,
    check_trainable,
    cpu_seconds,
    fit,
    train,
)
from spearshield.training.loss_log import LOSSES


def examples(n=40) -> Examples:
    pixels = torch.randint(0, 256, (n, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    return Examples.of(pixels.to(torch.uint8), torch.arange(n) % 2, ("even", "odd"))


def task() -> Task:
    torch.manual_seed(5)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2)
    )
    return Task(network, network, (1, 4, 4), 2)


def weights(learner: Learner) -> list[torch.Tensor]:
    return [p.detach().clone() for p in learner.parameters()]


TRAINING = Training(StandardTraining(decay_steps=20), steps=20, batch_size=8)


@fails_under(
    "ignored training seed",
    (loop, "ambient", lambda seed, step=0: contextlib.nullcontext()),
    (batches, "permutation", lambda n, seed, epoch: torch.arange(n)),
    (batches, "Rng", lambda seed, ids: Rng(0, ids)),
)
def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    a, b, c = (train(TRAINING, task(), examples, seed=s) for s in (0, 0, 1))
    assert all(map(torch.equal, weights(a), weights(b)))
    assert not all(map(torch.equal, weights(a), weights(c)))


def test_a_repetition_has_a_seed_of_its_own_and_repetition_0_that_of_all():
    again = replace(TRAINING, replicate=1)
    first, second = (
        weights(train(training, task(), examples, seed=3))
        for training in (again, replace(again, replicate=2))
    )
    assert TRAINING.seed(3) == 3
    own = weights(train(TRAINING, task(), examples, seed=again.seed(3)))
    assert all(map(torch.equal, first, own)) and not any(map(torch.equal, first, second))
    names = [replace(again, name=name).display_name for name in ("", "x")]
    assert names == ["standard_training~2", "x~2"]
    with pytest.raises(ValueError, match="replicate must be at least 0"):
        replace(TRAINING, replicate=-1)


def test_a_signal_saves_the_state_and_resuming_is_exact(tmp_path):
    straight = train(TRAINING, task(), examples, seed=0)

    def interrupt(title, total):
        def bar(done, losses):
            if done == 7:
                os.kill(os.getpid(), signal.SIGTERM)

        return bar

    with pytest.raises(Interrupted, match="stopped after step 7 of 20"):
        train(TRAINING, task(), examples, seed=0, folder=tmp_path, progress=interrupt)
    assert checkpoint.load(tmp_path / CHECKPOINT)["steps"] == 7
    taken, titles = [], []

    def count(title, total):
        titles.append(title)
        return lambda done, losses: taken.append(done)

    resumed = train(TRAINING, task(), examples, seed=0, folder=tmp_path, progress=count)
    assert taken == [*range(7, 21)]
    train(TRAINING, task(), examples, seed=0, folder=tmp_path, progress=count)
    assert titles == ["train standard_training", "load standard_training"] and taken[-1] == 20
    assert all(map(torch.equal, weights(straight), weights(resumed)))
    lines = [json.loads(line) for line in (tmp_path / LOSSES).read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(20)]


def test_signal_handlers_are_restored():
    before = signal.getsignal(signal.SIGINT)
    train(TRAINING, task(), examples, seed=0)
    assert signal.getsignal(signal.SIGINT) is before


def sixty_steps(folder: Path, bar: ProgressBar = no_bar) -> None:
    """Sixty steps, from the checkpoint in the folder if there is one; saves at every step."""
    with ambient(0):
        learner = TRAINING.method.learner(task())
    options = {"folder": folder, "bar": bar}
    with mock.patch.object(loop, "SAVE_EVERY", 0.0):
        fit(learner, examples(), steps=60, batch_size=8, seed=0, **options)


CHILD = """
import sys, time
from pathlib import Path
from unittest import mock
from training.test_loop import sixty_steps
sixty_steps(Path(sys.argv[1]), lambda done, losses: (print(done, flush=True), time.sleep(0.01)))
"""


def test_a_killed_training_ends_with_identical_weights(tmp_path):
    """SIGKILL at two arbitrary moments, often during a save."""
    here = str(Path(__file__).parents[1])
    paths = [here, str(Path(here).parent / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "killed")]
    for after in (5, 23):
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert child.stdout
        for line in child.stdout:
            if int(line) >= after:
                break
        time.sleep(0.003 * after % 0.02)
        child.kill()
        child.wait()
        child.stdout.close()
        assert 0 < checkpoint.load(tmp_path / "killed" / CHECKPOINT)["steps"] < 60
    sixty_steps(tmp_path / "killed")
    sixty_steps(tmp_path / "straight")
    saved = [checkpoint.load(tmp_path / run / CHECKPOINT) for run in ("killed", "straight")]
    assert saved[0]["steps"] == saved[1]["steps"] == 60
    for name, value in saved[1]["state"].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(saved[0]["state"][name], value), name
    lines = (tmp_path / "killed" / LOSSES).read_text().splitlines()
    assert lines == (tmp_path / "straight" / LOSSES).read_text().splitlines()


def test_a_checkpoint_of_another_architecture_raises(tmp_path):
    train(TRAINING, task(), examples, seed=0, folder=tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    wide = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors does not fit"):
        train(TRAINING, Task(wide, wide, (1, 4, 4), 2), examples, seed=0, folder=tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


class Diverging(Learner):
    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    def step(self, x, y, *, rng):
        self.taken += 1
        return {"loss": float("nan") if self.taken == 3 else 1.0}

    def outcome(self) -> Outcome:
        return Outcome(torch.nn.Identity())


def test_a_loss_that_is_not_finite_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    with pytest.raises(ValueError, match=r"losses at step 2 are not finite: \{'loss': nan\}"):
        fit(Diverging(), examples(), steps=5, batch_size=8, seed=0, folder=tmp_path)
    assert checkpoint.load(tmp_path / CHECKPOINT)["steps"] == 2


class Recorder(Diverging):
    """Keeps the labels and the randomness of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[torch.Tensor, Rng]] = []

    def step(self, x, y, *, rng):
        self.shown.append((y, rng))
        return {"loss": 1.0}


def test_each_epoch_has_each_image_once_in_another_order():
    learner = Recorder()
    fit(learner, examples(), steps=10, batch_size=8, seed=3)
    epochs = [torch.cat([rng.ids for _, rng in learner.shown[i : i + 5]]) for i in (0, 5)]
    assert all(torch.equal(ids.sort().values, torch.arange(40)) for ids in epochs)
    assert not torch.equal(*epochs)


def test_randomness_belongs_to_the_image_and_the_step():
    learner = Recorder()
    fit(learner, examples(8), steps=2, batch_size=8, seed=3)
    (_, first), (_, second) = learner.shown
    draws = [rng.uniform((2,))[rng.ids.argsort()] for rng in (first, second)]
    assert not torch.equal(*draws)


@fails_under("images that stay as they are", (Augmentation, "__call__", lambda self, x, rng: x))
def test_augmentation_changes_the_images_of_each_step_and_resumes(tmp_path):
    training = replace(TRAINING, augmentation=Augmentation(shift=1))
    whole = train(training, task(), examples, seed=0)
    train(replace(training, steps=7), task(), examples, seed=0, folder=tmp_path)
    resumed = train(training, task(), examples, seed=0, folder=tmp_path)
    assert all(map(torch.equal, weights(whole), weights(resumed)))
    without = train(TRAINING, task(), examples, seed=0)
    assert not all(map(torch.equal, weights(whole), weights(without)))
    with pytest.raises(ValueError, match="unset augmentation"):
        replace(training, precompute=True)


def test_the_processor_time_of_all_processes_is_counted(tmp_path):
    train(replace(TRAINING, steps=7), task(), examples, seed=0, folder=tmp_path)
    first = cpu_seconds(tmp_path)
    train(TRAINING, task(), examples, seed=0, folder=tmp_path)
    assert 0 < first < cpu_seconds(tmp_path)
    assert cpu_seconds(tmp_path / "absent") == 0


def test_a_batch_larger_than_the_data_raises():
    with pytest.raises(
        ValueError, match="batch_size of standard_training is 64 but there are 40 images"
    ):
        check_trainable(Training(StandardTraining(), 1, batch_size=64), Recorder(), 40)


def test_a_finished_training_loads_no_images(tmp_path):
    def not_called() -> Examples:
        raise AssertionError("the training images were loaded")

    for steps in (1, 2):
        training = Training(StandardTraining(), steps, batch_size=8)
        folder = tmp_path / str(steps)
        learner = train(training, task(), examples, seed=0, folder=folder)
        again = train(training, task(), not_called, seed=0, folder=folder, finished=True)
        for a, b in zip(weights(learner), weights(again), strict=True):
            assert torch.equal(a, b)
    longer = Training(StandardTraining(), 5, batch_size=8)
    with pytest.raises(ValueError, match="2 has taken 2 of 5 steps; finish it first"):
        train(longer, task(), not_called, seed=0, folder=tmp_path / "2", finished=True)
