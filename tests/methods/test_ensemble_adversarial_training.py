"""Ensemble adversarial training: sources, loss, phases and resuming."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

import spearshield as ss
from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.classifiers.m_cnn import MCNN
from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.dataset import Examples
from spearshield.experiment.overrides import override
from spearshield.method import Task
from spearshield.methods.ensemble_adversarial_training import (
    EnsembleAdversarialLearner,
    EnsembleAdversarialTraining,
)
from spearshield.rng import Rng, ambient
from spearshield.threat import Linf
from spearshield.training.loop import Training, train
from spearshield.training.overfitting_alarm import OverfittingAlarm

SHAPE, EPS = (1, 4, 4), 0.1


class Recorder(HalfSpace):
    """Keeps its inputs in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[torch.Tensor] = []

    def forward(self, x):
        if self.training:
            self.shown.append(x.detach().clone())
        return super().forward(x)


def static_model() -> HalfSpace:
    """Its weights have other signs than those of a fresh half-space."""
    model = HalfSpace().eval()
    with torch.no_grad():
        model.w.copy_(model.w.roll(5, 1).flip(2))
        model.b.copy_(model.w.sum() / 2)
    return model


def batch():
    """Images on both sides of both planes; half of the labels are wrong for every model."""
    x = 0.5 + 0.2 * (torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0)) - 0.5)
    return x, torch.tensor([0, 1] * 4), Rng.of_batch(0, 8)


def away_from_its_class(model, x):
    """FGSM on a half-space from the class that it predicts, by hand."""
    side = model.margin(x).sign()[:, None, None, None]
    return (x - EPS * side * model.w.sign()).detach()


def half_spaces(**settings):
    method = EnsembleAdversarialTraining(static=(), **settings)
    task = Task(static_model(), Recorder().eval(), SHAPE, 2, FGSM(Linf(EPS)))
    return method.learner(task)


@fails_under(
    "images of the model in training alone",
    (EnsembleAdversarialLearner, "sources", property(lambda self: [self.attacked()])),
)
def test_every_source_makes_the_images_of_its_share_of_batches():
    trained = half_spaces(lr=0.0)
    x, y, rng = batch()
    for step in range(24):
        with ambient(0, step):
            trained.step(x, y, rng=rng)
    by_source = [away_from_its_class(model, x) for model in (trained.classifier, static_model())]
    made = [shown[len(x) :] for shown in trained.classifier.shown]
    assert all(torch.equal(shown[: len(x)], x) for shown in trained.classifier.shown)
    chosen = [[bool(torch.allclose(m, one, atol=1e-6)) for one in by_source] for m in made]
    assert all(sum(each) == 1 for each in chosen)
    assert 6 <= sum(own for own, _ in chosen) <= 18


def test_the_alarm_compares_images_of_the_classifier_in_training(monkeypatch):
    seen = []

    def watch(self, step, model, x, y, x_adv, threat, rng):
        seen.append(x_adv)
        return 0.0

    monkeypatch.setattr(OverfittingAlarm, "watch", watch)
    trained = half_spaces(lr=0.0, watch_every=2)
    x, y, rng = batch()
    for step in range(16):
        with ambient(0, step):
            trained.step(x, y, rng=rng)
    own = away_from_its_class(trained.classifier, x)
    for x_adv in seen[::2]:
        torch.testing.assert_close(x_adv, own)
    drawn = [torch.allclose(shown[len(x) :], own, atol=1e-6) for shown in trained.classifier.shown]
    assert not all(drawn[::2])


def test_the_loss_and_the_update_by_hand():
    trained = half_spaces(lr=0.5, optimiser="sgd")
    before = copy.deepcopy(trained.classifier)
    x, y, rng = batch()
    losses = trained.step(x, y, rng=rng)
    x_adv = trained.classifier.shown[0][len(x) :]
    clean, adversarial = cross_entropy(before(x), y), cross_entropy(before(x_adv), y)
    assert losses == pytest.approx({"clean": clean.item(), "adversarial": adversarial.item()})
    gradient_w, gradient_b = torch.autograd.grad((clean + adversarial) / 2, [before.w, before.b])
    torch.testing.assert_close(trained.classifier.w, before.w - 0.5 * gradient_w)
    torch.testing.assert_close(trained.classifier.b, before.b - 0.5 * gradient_b)


def small_task() -> Task:
    with ambient(5):
        return Task(
            SmallCNN().build(SHAPE, 2).eval(),
            SmallCNN().build(SHAPE, 2).eval(),
            SHAPE,
            2,
            FGSM(Linf(EPS)),
        )


def moved(network, before) -> bool:
    return not all(map(torch.equal, network.state_dict().values(), before.values()))


def test_static_models_are_trained_first_and_then_stay():
    task = small_task()
    learner = EnsembleAdversarialTraining(static_steps=2).learner(task)
    first, second = learner.static
    assert moved(first, second.state_dict())
    networks = [*learner.static, learner.classifier]
    x, y, rng = batch()
    for step in range(5):
        before = copy.deepcopy([network.state_dict() for network in networks])
        learner.step(x, y, rng=rng)
        now = [moved(*pair) for pair in zip(networks, before, strict=True)]
        assert now == ([True, True, False] if step < 2 else [False, False, True])
    assert int(learner.taken) == 3


def test_resuming_in_either_phase_changes_nothing(tmp_path):
    pixels = torch.randint(0, 256, (24, *SHAPE), generator=torch.Generator().manual_seed(0))
    examples = Examples.of(pixels.to(torch.uint8), torch.arange(24) % 2, ("even", "odd"))
    method = EnsembleAdversarialTraining(static_steps=3, average=0.9)
    learners = []
    for stops in ((8,), (2, 8), (5, 8)):
        for steps in stops:
            training = Training(method, steps, small_task().learn_from, batch_size=8)
            folder = tmp_path / str(stops)
            made = train(training, small_task(), lambda: examples, seed=0, folder=folder)
        learners.append(made.state_dict())
    for name, value in learners[0].items():
        if isinstance(value, torch.Tensor):
            assert all(torch.equal(value, other[name]) for other in learners[1:]), name


def test_the_steps_are_divided_between_the_phases():
    method = EnsembleAdversarialTraining().for_steps(400)
    assert (method.static_steps, method.decay_steps, method.warmup_steps) == (100, 300, 60)
    alone = EnsembleAdversarialTraining(static=()).for_steps(400)
    assert (alone.static_steps, alone.decay_steps, alone.warmup_steps) == (0, 400, 80)


def test_the_static_models_are_set_by_name():
    method = override(EnsembleAdversarialTraining(), "static", "m_cnn, small_cnn")
    assert method.static == (MCNN(), SmallCNN())
    assert override(method, "static", "").static == ()
    with pytest.raises(ValueError, match="m_cnn"):
        override(method, "static", "m_cn")


def test_the_front_door_trains_it(tmp_path):
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with ambient(0):
        model = MCNN().build((1, 8, 8), 2).eval()
    shield = ss.protect(
        model,
        x,
        torch.arange(40) % 2,
        method="ensemble_adversarial_training",
        training_attack="fgsm",
        steps=8,
        held_out=0,
        folder=tmp_path,
        progress=False,
    )
    assert shield.card.training.method.static_steps == 2
    assert not torch.equal(shield.classifier(x), model(x))
