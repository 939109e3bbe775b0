"""The audit catches flawed defences and feeble attacks, and accuses no honest model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mutations import fails_under
from spearshield import api
from spearshield.attacks.apgd import APGD
from spearshield.judging.checks import comparison, gradients, outputs
from spearshield.judging.finding import Finding
from spearshield.selftest import IMAGES, SPECIMENS, judge, selftest
from spearshield.selftest.attacks import ATTACKS
from spearshield.selftest.defences import DEFENCES
from spearshield.selftest.honest import HONEST
from spearshield.selftest.networks import THREAT, Networks
from spearshield.selftest.specimen import Judged, Specimen

SPECIMEN = {specimen.name: specimen for specimen in SPECIMENS}
CHEAP = (
    "noise seeded by the pixels",
    "softmax outputs",
    "purifier out of range",
)
COMMON = ("plain", "logits x 0.001", "nearest class mean", "average pooling")


def names(specimens):
    return pytest.mark.parametrize("name", [specimen.name for specimen in specimens])


@pytest.fixture(scope="session")
def networks():
    return Networks(IMAGES)


def assert_passes(name, networks):
    judged = judge(SPECIMEN[name], networks)
    assert judged.passed, [judged.verdict, judged.error, *map(str, judged.findings)]


@fails_under(
    "no check of effort", (comparison, "feeble_attacks", lambda scored: None), name="tiny steps"
)
@names(ATTACKS)
def test_a_feeble_attack_is_caught(name, networks):
    assert_passes(name, networks)


@names(attack for attack in ATTACKS if attack.name != "a single run")
def test_a_sound_attack_breaks_more_than_a_feeble_one(name, networks):
    model, sound = SPECIMEN[name].build(networks), APGD(THREAT, "margin", steps=50)
    robust = [
        api.audit(model, networks.x, networks.y, attacks=[attack], progress=False).robust
        for attack in (sound, SPECIMEN[name].attack)
    ]
    assert robust[0] < robust[1] - 0.03


@fails_under("abrupt answers allowed", (outputs, "JUMPS", 1.0), name="noise seeded by the pixels")
@pytest.mark.parametrize("name", CHEAP)
def test_a_flawed_defence_is_caught(name, networks):
    assert_passes(name, networks)


@fails_under("every gradient is false", (gradients, "FALSE", 0.0), name="average pooling")
@pytest.mark.parametrize("name", COMMON)
def test_an_honest_model_is_not_accused(name, networks):
    assert_passes(name, networks)


def test_there_are_enough_specimens_with_names_of_their_own():
    assert len(SPECIMEN) == len(SPECIMENS)
    assert len(DEFENCES) >= 25
    assert len(ATTACKS) >= 10
    assert len(HONEST) >= 12
    assert all(bool(each.expected) != bool(each.refusal) for each in (*DEFENCES, *ATTACKS))


def judged(specimen, verdict, *found, error=""):
    findings = tuple(Finding(check, severity, {}, "meaning.", "next.") for check, severity in found)
    return Judged(specimen, verdict, 0.5, findings, error)


def specimen(kind, **more):
    return Specimen(kind, "name", "about", lambda networks: networks.plain, **more)


HIGH, LOW = ("zero_gradient", "high"), ("zero_gradient", "low")


def test_a_flawed_defence_passes_only_if_all_expected_checks_report_it():
    flawed = specimen("flawed defence", expected=("zero_gradient",), forbidden=("random_answers",))
    assert judged(flawed, "not trustworthy", HIGH).passed
    assert judged(flawed, "broken", HIGH).outcome == "caught"
    assert not judged(flawed, "broken").passed
    assert not judged(flawed, "not trustworthy", LOW).passed
    assert not judged(flawed, "no flaw found", HIGH).passed
    assert not judged(flawed, "not trustworthy", HIGH, ("random_answers", "low")).passed
    assert judged(flawed, "refused", error="an error").outcome == "missed"


@pytest.mark.parametrize(("robust_acc", "outcome"), [(0.25, "caught"), (0.26, "number too high")])
def test_a_number_far_above_the_truth_does_not_pass(robust_acc, outcome):
    flawed = specimen("flawed defence", expected=("zero_gradient",), truth=0.2)
    found = replace(judged(flawed, "not trustworthy", HIGH), robust_acc=robust_acc)
    assert found.outcome == outcome and found.passed == (outcome == "caught")


def test_a_refused_model_passes_only_with_the_expected_error():
    refused = specimen("flawed defence", refusal="training mode")
    assert judged(refused, "refused", error="a layer is in training mode").passed
    assert not judged(refused, "refused", error="another error").passed
    assert not judged(refused, "not trustworthy", HIGH).passed


def test_an_honest_model_passes_only_without_findings_of_high_severity():
    honest = specimen("honest model")
    assert judged(honest, "no flaw found", LOW).passed
    assert judged(honest, "broken").outcome == "silent"
    assert not judged(honest, "broken", HIGH).passed
    assert judged(honest, "refused", error="an error").outcome == "accused"


def test_a_feeble_attack_passes_with_a_finding_and_without_an_examination():
    feeble = specimen("feeble attack", expected=("zero_gradient",))
    assert judged(feeble, "not examined", LOW).passed
    assert not judged(feeble, "no flaw found", LOW).passed
    assert not judged(feeble, "not examined").passed


def test_the_self_test_judges_each_specimen_and_reports_progress():
    done = []

    def progress(title, total):
        assert total == 2
        return lambda count, values: done.append(count)

    rows = [*selftest(ATTACKS[:2], progress=progress)]
    assert [row.specimen for row in rows] == [*ATTACKS[:2]]
    assert done == [1, 2]


@pytest.mark.slow
def test_every_specimen_is_judged_rightly():
    wrong = {row.specimen.name: row.found or row.error for row in selftest() if not row.passed}
    assert wrong == {}
