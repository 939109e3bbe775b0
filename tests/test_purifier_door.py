"""A purifier handed to `audit` and `attack`, attacks on other models, and budgets, from Python."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from torch import nn

from fixtures.models import Affine, Fence, Noise
from mutations import fails_under
from spearshield import api
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.experiment import trials
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.threat import L2, Linf
from spearshield.training.precomputed_attack import PrecomputedAttack
from spearshield.training.transfer_attack import Transfer
from spearshield.views import Adaptive, Oblivious

THREAT = Linf(0.3)
FAST = {"examine": False, "progress": False}


def rounds(x):
    return (4 * x).round() / 4


class Rounds(nn.Module):
    def forward(self, x):
        return rounds(x)


@pytest.fixture
def model():
    return Affine(3).train()


@pytest.fixture
def data(model):
    """Images that the model gets right, rounded or not."""
    x = (torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(3)) * 255).round() / 255
    with torch.no_grad():
        same = model(x).argmax(1) == model(rounds(x)).argmax(1)
    return x[same][:24], model(x[same][:24]).argmax(1)


@pytest.mark.parametrize("purifier", [rounds, Rounds(), torch.compiler.disable(rounds)])
def test_a_rounding_purifier_is_attacked_around_and_ignored(model, data, purifier):
    report = api.audit(model, *data, purifier=purifier, threat=THREAT, **FAST)
    assert {row.view for row in report.rows} >= {"oblivious", "adaptive", "bpda"}
    assert report.clean == 1.0 and report.robust == 0.0
    exact = next(row for row in report.rows if row.view == "adaptive")
    assert exact.robust_acc > report.robust  # the gradient of rounding is zero
    assert report.worst.classifier == "Affine" and report.worst.method.lower() == "rounds"
    assert model.training


def test_the_same_attack_as_by_hand(model, data):
    handed = api.attack(model, *data, purifier=rounds, threat=THREAT, progress=False)
    by_hand = api.attack(Defended(Rounds(), model), *data, threat=THREAT, progress=False)
    assert torch.equal(handed.x_adv, by_hand.x_adv)
    assert handed.victim.purifiers and torch.equal(handed.score.robust, by_hand.score.robust)


def test_the_abilities_of_a_purifier_are_kept(model, data):
    report = api.audit(model, *data, purifier=Noise(0.05), limit=8, threat=THREAT, **FAST)
    assert "eot(10)" in {row.view for row in report.rows} and report.worst.repeated
    report = api.audit(model, *data, purifier=Fence(0.5), limit=8, threat=THREAT, **FAST)
    assert "detector_aware" in {row.view for row in report.rows} and report.worst.rejected
    chain = Defended(Fence(0.5), model)
    report = api.audit(chain, *data, purifier=Noise(0.05), limit=8, threat=THREAT, **FAST)
    views = {row.view for row in report.rows}
    assert {"eot(10)", "detector_aware", "bpda"} <= views
    assert report.worst.rejected and report.worst.repeated
    assert report.worst.method == "Noise_Fence"


def test_a_wrapper_around_a_defended_model_hides_no_ability(model, data):
    inner = Defended(Noise(0.05), Defended(Fence(0.5), model.eval()))
    report = api.audit(api.as_classifier(inner), *data, limit=8, threat=THREAT, **FAST)
    assert {"eot(10)", "detector_aware", "bpda"} <= {row.view for row in report.rows}
    assert (report.worst.method, report.worst.classifier) == ("Noise_Fence", "Affine")


WRONG = {
    "no purifier": (3, "must be an nn.Module or a function"),
    "another shape": (lambda x: x[:, :, :2], r"turns images of shape \(1, 1, 4, 4\)"),
    "another type": (lambda x: x.double(), "float64; it must keep both"),
    "an array": (lambda x: x.numpy(), "returns ndarray; it must return a tensor"),
    "out of range": (lambda x: 2 * x + 1, "is not an image: .* clamp it"),
    "NaN": (lambda x: x * float("nan"), "is not an image"),
    "an error": (lambda x: x @ torch.ones(3, 3), "the purifier <lambda> fails on images"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_purifier_that_is_none_is_refused(model, data, wrong, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    purifier, said = WRONG[wrong]
    for door in (api.audit, api.attack):
        with pytest.raises(ValueError, match=said):
            door(model, *data, purifier=purifier, threat=THREAT, progress=False)


def test_a_training_of_a_run_has_its_own_purifier(tmp_path):
    with pytest.raises(ValueError, match="is a training of a run"):
        api.audit(tmp_path / "run" / "ape_gan", purifier=rounds, progress=False)


def other() -> nn.Module:
    model = Affine(3)
    model.weight.data = model.weight.data.roll(1)
    return model.eval()


def stored(x) -> PrecomputedAttack:
    fgsm = FGSM(THREAT)
    return PrecomputedAttack(THREAT, fgsm, (x + 0.1).clamp(0, 1), torch.arange(len(x)))


@fails_under(
    "attacks on other models called adaptive",
    (trials, "_view_of_transfer", lambda attack, subject: Adaptive()),
)
def test_images_made_on_other_models_are_transferred(model, data):
    frozen, once = Affine(3).eval(), Defended(Rounds(), model)
    cases = {
        "another model": (model, Transfer(THREAT, (other(),)), "transferred"),
        "another model, as a trial": (model, Trial(Transfer(THREAT, (other(),))), "transferred"),
        "images made before": (model, stored(data[0]), "transferred"),
        "this model": (model, Transfer(THREAT, (frozen,)), "adaptive"),
        "behind the purifier": (once, Transfer(THREAT, (frozen,)), "oblivious"),
        "behind two": (Defended(Rounds(), once), Transfer(THREAT, (frozen,)), "oblivious"),
    }
    for name, (victim, attack, view) in cases.items():
        report = api.audit(victim, *data, attacks=[attack], progress=False)
        assert [row.view for row in report.rows] == [view, "worst_case"], name
    with pytest.raises(ValueError, match="its view is transferred"):
        api.audit(
            model,
            *data,
            attacks=[Transfer(THREAT, (other(),))],
            views=[Oblivious()],
            progress=False,
        )


def test_a_battery_says_that_other_models_were_attacked(model, data):
    report = api.audit(model, *data, threat=Linf(0.01), transfer_from=[other()], **FAST)
    assert [row.view for row in report.rows if row.attack == "transfer"] == ["transferred"]


DOORS = {
    "audit": lambda model, data, threat: api.audit(model, *data, threat=threat, progress=False),
    "attack": lambda model, data, threat: api.attack(model, *data, threat=threat, progress=False),
    "audit of attacks": lambda model, data, threat: api.audit(
        model, *data, threat=threat, attacks=["fgsm"], progress=False
    ),
    "protect": lambda model, data, threat: api.protect(
        model, *data, threat=threat, steps=1, progress=False
    ),
    "learn_attack": lambda model, data, threat: api.learn_attack(
        model, *data, threat=threat, method="uap", steps=1, progress=False
    ),
}


@fails_under(
    "budgets not checked", (trials, "check_threat", lambda threat, shape: None), door="audit"
)
@pytest.mark.parametrize("door", DOORS)
def test_a_budget_that_allows_every_image_is_refused(model, data, door):
    with pytest.raises(ValueError, match=r"L2 128 is more than 4, .* or --eps 128/255"):
        DOORS[door](model, data, L2(128.0))


def test_a_budget_of_an_attack_or_method_is_checked_too(model, data, tmp_path):
    with pytest.raises(ValueError, match="L2 8 is more than 4"):
        api.audit(model, *data, attacks=[PGD(L2(8.0))], progress=False)
    with pytest.raises(ValueError, match="L2 128 is more than 4"):
        api.attack(model, *data, attack=Trial(PGD(L2(128.0))), progress=False)
    settings = {"steps": 1, "folder": tmp_path, "progress": False}
    with pytest.raises(ValueError, match="L2 8 is more than 4"):
        api.protect(model, *data, training_attack=FGSM(L2(8.0)), **settings)


def test_the_whole_range_is_a_budget(model, data):
    assert api.audit(model, *data, attacks=["fgsm"], threat=Linf(1.0), progress=False).rows
    assert api.audit(model, *data, attacks=["fgsm"], threat=L2(4.0), progress=False).rows


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("threat", ["Linf", "8/255", ("Linf", 0.3), 0.3, 8, {"eps": 0.3}, Linf])
def test_a_threat_model_in_words_is_refused(model, data, door, threat, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    with pytest.raises(ValueError, match=r"give the threat model as Linf\(8 / 255\) or L2"):
        DOORS[door](model, data, threat)
