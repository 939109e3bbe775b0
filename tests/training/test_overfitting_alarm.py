"""The alarm for catastrophic overfitting: what it measures, and that it changes nothing."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace

import pytest
import torch

from contracts.test_methods import SHAPE, Small, assert_same_tree
from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.adversary import Attack
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.discover import find, names
from spearshield.method import Method, Task
from spearshield.methods.ensemble_adversarial_training import EnsembleAdversarialTraining
from spearshield.methods.fgsm_rs import FGSMRS
from spearshield.methods.ibp import IBP
from spearshield.methods.mtl_ibp import MTLIBP
from spearshield.methods.n_fgsm import NFGSM
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.trades import TRADES
from spearshield.rng import Rng, ambient
from spearshield.threat import Linf
from spearshield.training import classifier_training, overfitting_alarm
from spearshield.training.classifier_training import AdversarialTraining, passes
from spearshield.training.loop import Training, train
from spearshield.training.overfitting_alarm import CatastrophicOverfittingWarning

METHODS = [
    FGSMRS(),
    NFGSM(),
    TRADES(steps=2),
    PGDAdversarialTraining(),
    EnsembleAdversarialTraining(static_steps=1),
    MTLIBP(),
]


@dataclass(frozen=True)
class Idle(Attack):
    """An adversary that changes nothing."""

    def perturb(self, model, x, y, rng):
        return x


@pytest.fixture
def task() -> Task:
    with ambient(0):
        return Task(Small().eval(), Small().eval(), SHAPE, 3, FGSM(Linf(0.1)))


@pytest.fixture
def examples() -> Examples:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (24, *SHAPE), generator=generator).to(torch.uint8)
    return Examples.of(pixels, torch.arange(24) % 3, ("a", "b", "c"))


def fitted(method, task, examples, steps, folder=None):
    training = Training(method, steps, task.learn_from, batch_size=8)
    return train(training, task, lambda: examples, seed=2, folder=folder)


@fails_under(
    "alarm that moves batch statistics",
    (classifier_training, "frozen", lambda network: network.train()),
    method=METHODS[0],
)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.filterwarnings(
    "ignore::spearshield.training.overfitting_alarm.CatastrophicOverfittingWarning"
)
def test_the_alarm_changes_no_bit_of_the_training(method, task, examples):
    """With dropout and batch normalisation."""
    plain = fitted(method, task, examples, 5).state_dict()
    watched = fitted(replace(method, watch_every=2), task, examples, 5).state_dict()
    assert set(watched) - set(plain) == {"alarm.gap", "alarm.warned"}
    assert_same_tree({name: watched[name] for name in plain}, plain)


KINDS = [
    kind
    for name in names("methods")
    if issubclass(kind := find("methods", Method, name), AdversarialTraining) and kind is not IBP
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_training_with_an_adversary_can_warn(kind, monkeypatch, task, examples):
    monkeypatch.setattr(overfitting_alarm, "THRESHOLD", -2.0)
    phases = {"static_steps": 1} if kind is EnsembleAdversarialTraining else {}
    with pytest.warns(CatastrophicOverfittingWarning):
        fitted(kind(watch_every=2, **phases), task, examples, 2)


def linear(attack, **settings):
    """A training of a linear classifier that does not move, and images nearer than eps to it."""
    network, threat = HalfSpace().eval(), Linf(0.1)
    task = Task(network, network, (1, 4, 4), 2, attack(threat))
    learner = PGDAdversarialTraining(lr=0.0, **settings).learner(task)
    near, _ = network.images(4, threat, 0.06)
    far, _ = network.images(12, threat, 0.15)
    return learner, torch.cat([near, far]), torch.arange(16) % 2


def test_the_gap_is_the_accuracy_that_pgd_takes_and_the_adversary_does_not():
    """A quarter of the images is nearer to the boundary than eps."""
    for attack, gap in ((Idle, 0.25), (FGSM, 0.0)):
        learner, x, y = linear(attack, watch_every=1)
        assert learner.step(x, y, rng=Rng.of_batch(0, 16))["gap"] == gap


def test_pgd_has_the_budget_of_the_step():
    learner, x, y = linear(Idle, watch_every=1, warmup_steps=1)
    gaps = [learner.step(x, y, rng=Rng.of_batch(0, 16))["gap"] for _ in range(2)]
    assert gaps == [0.0, 0.25]


def test_the_warning_comes_once_with_step_and_accuracies():
    learner, x, y = linear(Idle, watch_every=2, warmup_steps=2)
    with pytest.warns(CatastrophicOverfittingWarning, match="at step 2: .* 100% .* 0% under PGD"):
        for _ in range(3):
            learner.step(x[:4], y[:4], rng=Rng.of_batch(0, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            learner.step(x[:4], y[:4], rng=Rng.of_batch(0, 4))
    assert int(learner.taken) == 6


def test_every_line_of_the_loss_log_has_the_last_gap(monkeypatch, task, examples, tmp_path):
    monkeypatch.setattr(overfitting_alarm, "THRESHOLD", 2.0)
    fitted(FGSMRS(watch_every=3, lr=0.1), task, examples, 7, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    gaps = [line["gap"] for line in lines]
    assert gaps == [gaps[0]] * 3 + [gaps[3]] * 3 + [gaps[6]]
    assert len({tuple(line) for line in lines}) == 1


def test_a_resumed_training_repeats_the_gap_and_not_the_warning(
    monkeypatch, task, examples, tmp_path
):
    monkeypatch.setattr(overfitting_alarm, "THRESHOLD", -2.0)
    method = FGSMRS(watch_every=2, lr=0.1)
    with pytest.warns(CatastrophicOverfittingWarning) as caught:
        straight = fitted(method, task, examples, 6, tmp_path / "straight")
        fitted(method, task, examples, 3, tmp_path / "parts")
        resumed = fitted(method, task, examples, 6, tmp_path / "parts")
    assert len(caught) == 2
    assert_same_tree(resumed.state_dict(), straight.state_dict())
    logs = [(tmp_path / name / "losses.jsonl").read_text() for name in ("straight", "parts")]
    assert logs[0] == logs[1]


def test_passes_of_a_step(task, examples):
    attack = PGD(Linf(0.1), steps=3, early_stop=False)
    for method, expected in ((FGSMRS(), 2), (NFGSM(), 2), (TRADES(steps=3), 5)):
        learner = method.learner(task)
        assert passes(learner, examples.images(), examples.y, Rng(0, examples.ids)) == expected
    learner = PGDAdversarialTraining().learner(replace(task, learn_from=attack))
    assert passes(learner, examples.images(), examples.y, Rng(0, examples.ids)) == 4


def test_passes_of_static_models_count_whatever_model_is_drawn(monkeypatch, task, examples):
    """One for the images of the source, and one for clean and one for adversarial images."""
    method = EnsembleAdversarialTraining(static_steps=0)
    for source in range(4):
        monkeypatch.setattr(torch, "randint", lambda *_, source=source: torch.tensor(source))
        learner = method.learner(task)
        assert passes(learner, examples.images(), examples.y, Rng(0, examples.ids)) == 3


def test_passes_do_not_depend_on_the_global_generator(task, examples):
    """The images of a source that stops early depend on the source that is drawn."""
    task = replace(task, learn_from=PGD(Linf(0.1), steps=3))
    counted = set()
    for seed in range(6):
        learner = EnsembleAdversarialTraining(static_steps=0, static=()).learner(task)
        with ambient(seed):
            counted.add(passes(learner, examples.images(), examples.y, Rng(0, examples.ids)))
    assert len(counted) == 1
