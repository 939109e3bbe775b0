"""Faults planted in training and evaluation: each one makes the test fail that is there for it."""

from __future__ import annotations

import contextlib

import pytest
import torch

from contracts import test_methods
from judging import test_evaluation, test_score
from spearshield.attacks.fgsm import FGSM
from spearshield.dataset import Examples
from spearshield.judging.score import Score
from spearshield.method import Learner, Task
from spearshield.methods import ape_gan
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel
from training import test_loop


def task() -> Task:
    torch.manual_seed(0)
    return Task(
        test_methods.Small().eval(),
        test_methods.Small().eval(),
        test_methods.SHAPE,
        3,
        FGSM(Linf(0.1)),
    )


def examples() -> Examples:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (24, *test_methods.SHAPE), generator=generator)
    return Examples.of(pixels.to(torch.uint8), torch.arange(24) % 3, ("a", "b", "c"))


def unsaved_optimiser(patch):
    patch.setattr(Learner, "get_extra_state", lambda self: {})
    patch.setattr(Learner, "set_extra_state", lambda self, state: None)


def purifier_out_of_range(patch):
    forward = ape_gan.Generator.forward
    patch.setattr(ape_gan.Generator, "forward", lambda self, x: forward(self, x) + 1)


def batch_statistics_at_test_time(patch):
    patch.setattr(torch.nn.BatchNorm2d, "eval", lambda self: self)
    patch.setattr(torch.nn.BatchNorm2d, "train", lambda self, mode=True: self)


def nan_that_passes_the_range_check(patch):
    def contains(self, x_adv, x, tolerance=1e-5):
        outside = ((x_adv < 0) | (x_adv > 1)).flatten(1).any(1)
        return ~(outside | (self.distance(x_adv, x) > self.eps + tolerance))

    patch.setattr(ThreatModel, "contains", contains)


def ignored_training_seed(patch):
    patch.setattr(
        "spearshield.training.loop.ambient", lambda seed, step=0: contextlib.nullcontext()
    )
    patch.setattr("spearshield.training.loop.permutation", lambda n, seed, epoch: torch.arange(n))
    patch.setattr("spearshield.training.loop.Rng", lambda seed, ids: Rng(0, ids))


def randomness_of_the_batch(patch):
    def of_positions(seed, ids):
        return Rng.of_batch(seed, len(ids))

    of_positions.of_batch = Rng.of_batch
    patch.setattr("spearshield.judging.evaluation.Rng", of_positions)


def robust_though_wrong_before(patch):
    patch.setattr(Score, "robust", property(lambda self: self.victim_adv == self.y))


def learner_that_trains_the_task(patch):
    patch.setattr("spearshield.methods.standard_training.copy.deepcopy", lambda network: network)


def method(name):
    return test_methods.find("methods", test_methods.Method, name)()


def first_of_24():
    pixels = torch.randint(110, 160, (24, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    right = test_evaluation.HalfSpace()(pixels.float() / 255).argmax(1)
    return Examples.of(pixels.to(torch.uint8), right, ("below", "above"))


CAUGHT_BY = {
    unsaved_optimiser: lambda folder: test_methods.test_resuming_changes_nothing(
        method("ape_gan"), task(), examples(), folder
    ),
    purifier_out_of_range: lambda _: test_methods.test_the_outcome_is_admitted_by_the_judge(
        method("ape_gan"), task(), examples()
    ),
    batch_statistics_at_test_time: lambda _: test_methods.test_the_outcome_is_admitted_by_the_judge(
        method("ape_gan"), task(), examples()
    ),
    learner_that_trains_the_task: lambda _: test_methods.test_does_not_change_the_task(
        method("standard_training"), task(), examples()
    ),
    nan_that_passes_the_range_check: lambda _: (
        test_evaluation.test_an_attack_that_leaves_its_threat_model_is_an_error(
            first_of_24(), test_evaluation.Fixed(Linf(0.1), value=float("nan")), "NaN"
        )
    ),
    ignored_training_seed: lambda _: (
        test_loop.test_the_same_seed_gives_the_same_weights_and_another_does_not()
    ),
    randomness_of_the_batch: lambda _: (
        test_evaluation.test_results_do_not_depend_on_batch_size_or_order(first_of_24(), 7)
    ),
    robust_though_wrong_before: lambda _: test_score.test_every_rate_counted_by_hand(),
}


@pytest.mark.parametrize("fault", CAUGHT_BY, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_caught(fault, tmp_path, monkeypatch):
    CAUGHT_BY[fault](tmp_path / "sound")
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception, ValueError)):
            CAUGHT_BY[fault](tmp_path / "faulty")
