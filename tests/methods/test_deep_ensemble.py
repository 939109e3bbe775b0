"""Deep ensemble: members take turns, each against an adversary of its own; their mean."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.dataset import Examples
from spearshield.experiment.overrides import override
from spearshield.method import Task, frozen
from spearshield.methods import deep_ensemble
from spearshield.methods.atta import ATTA
from spearshield.methods.deep_ensemble import DeepEnsemble, DeepEnsembleLearner
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.rng import Rng, ambient
from spearshield.threat import Linf
from spearshield.training.loop import Training, train

SHAPE = (1, 4, 4)
X = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 2
ATTACK = FGSM(Linf(0.2))


class Linear(nn.Module):
    """A linear classifier that keeps its inputs in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 2)
        self.shown: list[torch.Tensor] = []

    def forward(self, x):
        if self.training:
            self.shown.append(x.detach().clone())
        return self.layer(x.flatten(1))


def task(network=Linear, attack=ATTACK):
    with ambient(0):
        return Task(network().eval(), network().eval(), SHAPE, 2, attack)


def learner(members=3, lr=0.0):
    with ambient(1):
        return DeepEnsemble(PGDAdversarialTraining(lr=lr), members).learner(task())


def classifiers(trained) -> list[nn.Module]:
    return [learner.classifier for learner in trained.learners]


def mean(classifiers):
    return lambda x: sum(frozen(f)(x) for f in classifiers) / len(classifiers)


@fails_under(
    "one set of initial weights for all members",
    (deep_ensemble, "fresh_copy", lambda network: network),
)
def test_members_start_from_weights_of_their_own():
    first, second, third = (f.layer.weight for f in classifiers(learner()))
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


@fails_under(
    "a step of the first member at every turn",
    (DeepEnsembleLearner, "step", lambda self, x, y, rng: self.learners[0].step(x, y, rng=rng)),
)
def test_members_take_turns_against_an_adversary_of_their_own():
    trained = learner()
    for _ in range(6):
        trained.step(X, Y, rng=Rng.of_batch(0, 6))
    for f in classifiers(trained):
        x = X.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(frozen(f)(x), Y), x)
        expected = (X + 0.2 * gradient.sign()).clamp(0, 1)
        assert len(f.shown) == 2
        for shown in f.shown:
            torch.testing.assert_close(shown, expected)
    alone, together = classifiers(trained)[0], mean(classifiers(trained))
    assert not torch.equal(ATTACK(together, X, Y), alone.shown[0])


@fails_under(
    "sum in place of the mean",
    (deep_ensemble.Members, "forward", lambda self, x: sum(f(x) for f in self)),
)
def test_the_outcome_is_the_mean_of_the_members():
    trained = learner(lr=0.1)
    for _ in range(3):
        trained.step(X, Y, rng=Rng.of_batch(0, 6))
    outcome = trained.outcome()
    assert outcome.is_defence
    assert not any(layer.training for layer in outcome.defended.modules())
    torch.testing.assert_close(outcome.defended(X), mean(classifiers(trained))(X))


def test_schedules_are_those_of_a_share_of_the_steps():
    method = DeepEnsemble(PGDAdversarialTraining(), 4).for_steps(100)
    assert method.member == PGDAdversarialTraining().for_steps(25)


def test_a_member_without_a_step_is_refused():
    examples = Examples.of((255 * X).to(torch.uint8), Y, ("a", "b"))
    training = Training(DeepEnsemble(), 4, batch_size=6)
    with pytest.raises(ValueError, match="is 4, so a network would keep random weights; choose at"):
        train(training, task(), lambda: examples, seed=0)


def test_a_network_without_fresh_weights_is_refused():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(16, 2))

        def forward(self, x):
            return x.flatten(1) @ self.weight

    with pytest.raises(ValueError, match="Fixed has weights and no reset_parameters"):
        DeepEnsemble().learner(task(network=Fixed))


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match="members must be at least 1, got 0"):
        DeepEnsemble(members=0)
    assert override(DeepEnsemble(), "member", "atta") == DeepEnsemble(ATTA())
    with pytest.raises(ValueError, match="member must be a ClassifierTraining, and ape_gan is not"):
        override(DeepEnsemble(), "member", "ape_gan")
    with pytest.raises(ValueError, match="set learn_from"):
        DeepEnsemble().learner(task(attack=None))
