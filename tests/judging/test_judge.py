"""The judge: rows of trials and of the worst case, trials on survivors, and stored scores."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fixtures.models import HalfSpace
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.judging import cached_evaluation
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.judge import Judge
from spearshield.judging.results import WORST_CASE, to_json
from spearshield.judging.trial import Trial
from spearshield.method import Outcome
from spearshield.threat import L2, Linf
from spearshield.views import Oblivious

ABOUT = {"recipe": "r", "data": "grey", "split": "test", "classifier": "half_space"}
THREAT = Linf(0.02)
TRIALS = (
    Trial(FGSM(THREAT)),
    Trial(PGD(THREAT, steps=3), survivors=True),
    Trial(PGD(THREAT, steps=2), Oblivious(), images=8),
    Trial(FGSM(L2(0.1))),
)


def examples() -> Examples:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(88, 168, (24, 1, 4, 4), generator=generator).to(torch.uint8)
    y = HalfSpace()(pixels.float() / 255).argmax(1)
    return Examples.of(pixels, y, ("below", "above"))


class Darken(nn.Module):
    def forward(self, x):
        return 0.99 * x


def rows(folder, seed=0, **about):
    settings = EvaluationSettings(seed)
    judge = Judge(TRIALS, examples(), folder, settings, ABOUT | about, {"weights": "w"})
    return list(judge.rows("darken", Outcome(HalfSpace().eval(), Darken().eval())))


def test_a_row_for_each_trial_and_for_each_worst_case(tmp_path):
    made = rows(tmp_path)
    assert [(row.attack, row.view, row.threat, row.images) for row in made] == [
        ("fgsm", "adaptive", "Linf", 24),
        ("pgd", "adaptive", "Linf", 24),
        ("pgd", "oblivious", "Linf", 8),
        ("fgsm", "adaptive", "L2", 24),
        (WORST_CASE, WORST_CASE, "Linf", 8),
        (WORST_CASE, WORST_CASE, "L2", 24),
    ]
    assert made[1].robust_acc <= made[0].robust_acc < 1
    assert all((row.verdict is None) == (row.attack != WORST_CASE) for row in made)
    assert {row.parameters["weights"] for row in made} == {"w"}


@pytest.mark.parametrize("command", [None, "spearshield run r"])
def test_the_command_is_in_every_row(tmp_path, command):
    made = rows(tmp_path, **({"command": command} if command else {}))
    assert {row["command"] for row in to_json(made)} == {command}


def test_a_stored_score_is_read_for_the_same_seed_only(tmp_path, monkeypatch):
    first = rows(tmp_path)
    evaluate = cached_evaluation.evaluate
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return evaluate(*arguments, **options)

    monkeypatch.setattr(cached_evaluation, "evaluate", counted)
    assert rows(tmp_path) == first and calls == []
    rows(tmp_path, seed=1)
    assert len(calls) == len(TRIALS)
