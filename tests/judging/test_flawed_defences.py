"""The expected checks find the fault of every flawed defence; sound defences pass."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from spearshield.datasets.digits import Digits
from spearshield.judging.checks import CHECKS, run_checks
from spearshield.judging.checks.probe import Probe, share
from spearshield.judging.flawed_defences import DEFENCES, Material
from spearshield.judging.selftest import LR, SOUND, THREAT, selftest, sound_defences, trained
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
        examples=examples,
        material=material,
        sound=sound_defences(plain, hardened),
        hardened=hardened,
    )


@pytest.mark.parametrize("flawed", DEFENCES, ids=lambda flawed: flawed.name)
def test_the_expected_checks_find_the_fault(flawed, world):
    with ambient(0):
        probe = Probe.of(flawed.build(world.material), world.examples, THREAT)
        assert share(probe.clean) > 0.5  # else its robustness means nothing
        assert len(probe.robust) == IMAGES
        for name in flawed.expected:
            finding = CHECK[name](probe)
            assert finding is not None and finding.severity == "high", name


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_defence_has_no_finding_of_high_severity(name, world):
    with ambient(0):
        found = run_checks(Probe.of(world.sound[name], world.examples, THREAT))
    assert [str(finding) for finding in found if finding.severity == "high"] == []


def test_every_flawed_defence_names_its_checks():
    assert len({flawed.name for flawed in DEFENCES}) == len(DEFENCES) >= 14
    assert all(flawed.expected and set(flawed.expected) <= set(CHECK) for flawed in DEFENCES)


@pytest.mark.slow
def test_the_judge_passes_its_self_test():
    rows = selftest()
    assert [row.defence for row in rows] == [*(p.name for p in DEFENCES), *SOUND]
    for row in rows:
        assert row.passed, [row.defence, *map(str, row.findings)]
        assert (row.verdict == "trustworthy") == (row.defence in SOUND)
    robust = {row.defence: row.robust_acc for row in rows}
    assert robust["adversarially trained"] > robust["plain"] + 0.2
    assert sum(robust[flawed.name] > 0.5 for flawed in DEFENCES) >= 9
