"""Defences that are wrong on purpose are caught by the checks meant for them; honest ones pass."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from spearshield.datasets.digits import Digits
from spearshield.judging.checks import CHECKS, run_checks
from spearshield.judging.checks.probe import Probe, share
from spearshield.judging.flawed_defences import DEFENCES, Material
from spearshield.judging.selftest import HONEST, LR, THREAT, honest, selftest, trained
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.rng import ambient

CHECK = {check.__name__: check for check in CHECKS}
IMAGES = 30


@pytest.fixture(scope="session")
def world():
    plain, hardened = trained(StandardTraining(LR)), trained(PGDAdversarialTraining(LR))
    examples = Digits().load("test")[:IMAGES]
    material = Material(plain, examples.images(), examples.y)
    return SimpleNamespace(
        examples=examples, material=material, honest=honest(plain, hardened), hardened=hardened
    )


@pytest.mark.parametrize("planted", DEFENCES, ids=lambda planted: planted.name)
def test_a_planted_defence_is_caught_by_what_is_meant_for_it(planted, world):
    with ambient(0):
        probe = Probe.of(planted.build(world.material), world.examples, THREAT)
        assert share(probe.clean) > 0.5  # or nobody would look at its robustness
        assert len(probe.robust) == IMAGES
        for name in planted.expected:
            finding = CHECK[name](probe)
            assert finding is not None and finding.severity == "high", name


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_defence_raises_nothing_grave(name, world):
    with ambient(0):
        found = run_checks(Probe.of(world.honest[name], world.examples, THREAT))
    assert [str(finding) for finding in found if finding.severity == "high"] == []


def test_there_are_enough_of_them():
    assert len({planted.name for planted in DEFENCES}) == len(DEFENCES) >= 14
    assert all(planted.expected and set(planted.expected) <= set(CHECK) for planted in DEFENCES)


@pytest.mark.slow
def test_the_judge_passes_its_own_test():
    rows = selftest()
    assert [row.defence for row in rows] == [*(p.name for p in DEFENCES), *HONEST]
    for row in rows:
        assert row.passed, [row.defence, *map(str, row.findings)]
        assert (row.verdict == "trustworthy") == (row.defence in HONEST)
    robust = {row.defence: row.robust_acc for row in rows}
    assert robust["adversarially trained"] > robust["plain"] + 0.2
    assert sum(robust[planted.name] > 0.5 for planted in DEFENCES) >= 9
