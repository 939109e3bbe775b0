"""Escalation: planted defences lose what they hid, and the trials are ordered by cost."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fixtures.models import HalfSpace, Noise
from fixtures.opaque import Gate, HardVotes, Preprocessed, StackedVotes, jpeg
from mutations import fails_under
from spearshield.attacks.automatic_bpda import AutomaticBPDA
from spearshield.attacks.on_grid import OnGrid
from spearshield.dataset import Examples
from spearshield.datasets.digits import Digits
from spearshield.discover import name_of
from spearshield.judging.escalation import EFFORTS, escalation
from spearshield.judging.evaluation import evaluate
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.selftest.networks import THREAT, Networks
from spearshield.threat import L2, Linf
from spearshield.training.student import Student

IMAGES = 20
ORDER = [
    *(
        "automatic_bpda",
        "on_grid",
        "transfer",
        "automatic_bpda(fmn)",
        "automatic_bpda(apgd_margin)",
    ),
    *("automatic_bpda(fab)", "hop_skip_jump", "square"),
]


@pytest.fixture(scope="session")
def world():
    train, test = Digits().load("train"), Digits().load("test")[:IMAGES]
    plain = Networks(IMAGES).plain
    with torch.no_grad():
        test = test[plain(test.images()).argmax(1) == test.y]
    return SimpleNamespace(plain=plain, train=train, test=test, x=test.images(), y=test.y)


DEFENCES = {
    "JPEG": lambda w: Preprocessed(jpeg, w.plain),
    "stacked votes without a gradient": lambda w: StackedVotes([w.plain]),
    "hard votes with a decoy": lambda w: HardVotes([w.plain], decoy=True),
    "gate on 8 bits": lambda w: Gate(w.plain, w.x, w.y, torch.arange(256) / 255, stored=True),
}


def two_classes():
    """A half space without a purifier, and images with labels of two classes."""
    images = Digits().load("test")[:8]
    return HalfSpace((1, 8, 8)), Examples.of(images.pixels, images.y % 2, ("even", "odd"))


every_defence = pytest.mark.parametrize("name", DEFENCES)


def robust(victim, trials, examples):
    """True for each image that survives all trials, in order."""
    left = torch.arange(len(examples))
    for trial in trials:
        if len(left) > 0:
            left = left[evaluate(victim, trial.attack, examples[left], trial.view).robust]
    return len(left) / len(examples)


@fails_under(
    "no attack on the grid of the data",
    (OnGrid, "perturb", lambda self, model, x, y, rng: x.clone()),
    name="gate on 8 bits",
)
@pytest.mark.slow
@every_defence
def test_what_a_defence_hides_is_found(name, world):
    plain = Defended(nn.Identity(), world.plain).eval()
    truth = robust(plain, [Trial(AutomaticBPDA(THREAT, steps=50))], world.test)
    victim = Defended(nn.Identity(), DEFENCES[name](world)).eval()
    trials = escalation(THREAT, victim, world.test, 10, "quick", 0)
    assert robust(victim, trials, world.test) <= truth + 0.05


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=str)
def test_the_trials_on_survivors_go_from_cheap_to_dear(effort, threat, monkeypatch):
    small = replace(EFFORTS[effort], student=Student(4, 1, 1, 2))
    monkeypatch.setitem(EFFORTS, effort, small)
    model, examples = two_classes()
    trials = escalation(threat, Defended(nn.Identity(), model).eval(), examples, 2, effort, 0)
    assert [name_of(trial.attack) for trial in trials] == ORDER
    assert all(trial.survivors and trial.attack.threat == threat for trial in trials)


def test_the_numbers_of_the_battery_are_kept():
    standard, quick = EFFORTS["standard"], EFFORTS["quick"]
    assert (standard.decisions, standard.scores, standard.apgd_steps) == (5000, 20_000, 1000)
    assert (standard.fab_targets, standard.fab_restarts, standard.fmn_steps) == (9, 3, 500)
    names = ("steps", "fmn_steps", "apgd_steps", "fab_targets", "decisions", "scores", "draws")
    assert all(getattr(quick, name) < getattr(standard, name) for name in names)


def test_a_random_purifier_is_averaged(monkeypatch):
    monkeypatch.setitem(EFFORTS, "quick", replace(EFFORTS["quick"], student=Student(4, 1, 1, 2)))
    model, examples = two_classes()
    trials = escalation(THREAT, Defended(Noise(0.1), model).eval(), examples, 2, "quick", 0)
    assert [str(trial.view) for trial in trials[:2]] == ["eot(10)", "eot(10)"]
    assert str(trials[-1].view) == "adaptive"


def test_two_escalations_are_equal(world):
    victim = Defended(nn.Identity(), world.plain).eval()
    first, second = (
        escalation(THREAT, victim, world.test[:5], 10, "quick", 0)[2].attack for _ in range(2)
    )
    weights = [torch.cat([p.flatten() for p in a.sources[0].parameters()]) for a in (first, second)]
    assert torch.equal(*weights) and first.queries == 5 * (1 + 10 + 2 * 8)
