"""Batteries: the trials that take part for each victim, and their order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fixtures.models import Affine, HalfSpace, Noise
from mutations import fails_under
from spearshield.attacks.apgd import APGD
from spearshield.attacks.fab import FAB
from spearshield.attacks.fmn import FMN
from spearshield.attacks.guided_search import GuidedSearch
from spearshield.attacks.latent_search import LatentSearch
from spearshield.dataset import Examples
from spearshield.datasets.digits import Digits
from spearshield.discover import name_of
from spearshield.judging import battery
from spearshield.judging.battery import BATTERIES
from spearshield.judging.evaluation import EvaluationSettings, evaluate
from spearshield.judging.judge import Judge
from spearshield.method import Defended, Outcome
from spearshield.storage.serialization import dump
from spearshield.threat import L2, Linf
from spearshield.views import BPDA, Oblivious

BUDGET = Linf(0.1)
both = pytest.mark.parametrize("name", [*BATTERIES])


class Blur(nn.Module):
    def forward(self, x):
        return nn.functional.avg_pool2d(x, 3, 1, 1)


class Rounds(nn.Module):
    def __init__(self):
        super().__init__()
        self.differentiable_approximation = Blur()

    def forward(self, x):
        return x.round()


def taking_part(name, purifier, threat=BUDGET, classes=10, sources=()) -> list[tuple[str, str]]:
    trials = BATTERIES[name](threat, classes, sources)
    judge = Judge(trials, Digits().load("test")[:1], Path(), EvaluationSettings(), {}, {})
    found = judge.applicable(Outcome(HalfSpace(), purifier))
    return [(getattr(t.attack, "loss", None) or name_of(t.attack), str(t.view)) for t in found]


@both
def test_a_bare_classifier_is_attacked_adaptively_and_without_gradients(name):
    views = {view for _, view in taking_part(name, nn.Identity())}
    assert views == {"adaptive"}
    assert "square" in [attack for attack, _ in taking_part(name, nn.Identity())]


@fails_under(
    "differentiable approximation left out",
    (BPDA, "applies_to", lambda self, victim: self.through == "identity"),
)
@both
def test_what_a_purifier_declares_decides_the_views(name):
    def views(purifier):
        return {view.partition("(")[0] for _, view in taking_part(name, purifier)}

    assert views(Blur()) == {"oblivious", "adaptive", "bpda"}
    assert ("cross_entropy", "bpda(approximation)") in taking_part(name, Rounds())
    assert views(Noise(0.1)) == {"oblivious", "adaptive", "bpda", "eot"}


def test_a_purifier_with_a_generator_is_attacked_in_its_range():
    class Generated(Blur):
        def generate(self, z):
            return z

        def search(self, x, rng):
            return x, x.flatten(1).mean(1)

    assert ("latent_search", "in_range") in taking_part("standard", Generated())
    assert ("latent_search", "in_range") not in taking_part("standard", Blur())


@fails_under("no minimum-norm attack", (FMN, "minimal", False), (FAB, "minimal", False))
@both
@pytest.mark.parametrize("threat", [BUDGET, L2(0.5)])
def test_minimum_norm_attacks_take_part_in_every_norm(name, threat):
    trials = [trial for trial in BATTERIES[name](threat, 10) if trial.attack.minimal]
    assert [type(trial.attack) for trial in trials] == [FMN, FAB]
    assert {str(trial.view) for trial in trials} == {"adaptive"}


@both
def test_fmn_has_more_starts_in_l2_than_in_linf(name):
    def starts(threat):
        (fmn,) = (t.attack for t in BATTERIES[name](threat, 10) if isinstance(t.attack, FMN))
        return fmn.restarts

    assert starts(L2(0.5)) > starts(BUDGET) > 1


@both
@pytest.mark.parametrize(("classes", "loss"), [(2, "margin"), (3, "dlr"), (10, "dlr")])
def test_the_gradient_half_of_guided_search_is_a_trial_of_its_own(name, classes, loss):
    trials = BATTERIES[name](BUDGET, classes)
    (guided,) = (trial for trial in trials if isinstance(trial.attack, GuidedSearch))
    half = replace(guided, attack=APGD(BUDGET, loss, steps=guided.attack.steps))
    assert half in trials[: trials.index(guided)]


@both
def test_sources_add_a_transfer_attack(name):
    assert ("transfer", "transferred") in taking_part(name, Blur(), sources=[Outcome(HalfSpace())])
    assert ("transfer", "transferred") not in taking_part(name, Blur())


@both
def test_the_queries_of_the_sources_are_recorded(name):
    sources = [Outcome(HalfSpace(), queries=150), Outcome(HalfSpace()), Outcome(Blur(), queries=7)]
    (attack,) = (t.attack for t in BATTERIES[name](BUDGET, 10, sources) if "Transfer" in repr(t))
    assert dump(attack)["queries"] == 157


@both
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("threat", [BUDGET, L2(0.5)])
def test_every_attack_works_for_any_number_of_classes(name, classes, threat):
    model = Affine(classes).eval()
    pixels = (255 * torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))).byte()
    y = model(pixels / 255).argmax(1)
    examples = Examples(pixels, y, torch.arange(3), tuple(map(str, range(classes))))
    for trial in BATTERIES[name](threat, classes):
        if isinstance(trial.attack, LatentSearch):
            continue  # it needs a generator
        attack = trial.attack
        if hasattr(attack, "queries"):
            attack = replace(attack, queries=20)
        if hasattr(attack, "steps"):
            attack = replace(attack, steps=5)
        score = evaluate(Defended(Blur(), model).eval(), attack, examples)
        assert score.images == 3


@both
def test_a_battery_with_sources_can_be_written_as_json(name):
    json.dumps(dump(BATTERIES[name](BUDGET, 10, [Outcome(HalfSpace())])))


def pgd_on_survivors(threat, trial=battery._oblivious_pgd):
    return replace(trial(threat), survivors=True)


@fails_under("every trial on survivors", (battery, "_oblivious_pgd", pgd_on_survivors))
@both
def test_the_first_and_the_last_trial_see_every_image_and_the_others_survivors(name):
    first, *between, last = BATTERIES[name](BUDGET, 10)
    assert not first.survivors and not last.survivors
    assert all(trial.survivors for trial in between)
    assert str(first.view) == "adaptive" and str(last.view) == "oblivious"


@both
def test_attackers_with_less_knowledge_come_later(name):
    trials = BATTERIES[name](BUDGET, 10, [Outcome(HalfSpace())])
    less = [
        trial.attack.gradient_free or isinstance(trial.view, Oblivious)
        for trial in trials
        if not isinstance(trial.attack, GuidedSearch)
    ]
    assert less == sorted(less)
