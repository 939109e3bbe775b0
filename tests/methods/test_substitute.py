"""Substitute: the queries to the black box, the augmentation, and the transfer of attacks."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from contracts.test_methods import assert_same_tree
from fixtures.models import HalfSpace
from spearshield.adversary import misclassified
from spearshield.architecture import Architecture
from spearshield.attacks.fgsm import FGSM
from spearshield.dataset import Examples
from spearshield.method import Defended, Task
from spearshield.methods.substitute import Substitute
from spearshield.rng import Rng, ambient
from spearshield.threat import Linf
from spearshield.training.loop import Training, train


class Oracle(torch.nn.Module):
    """A black box that records its queries and has no gradient."""

    def __init__(self, hard=False) -> None:
        super().__init__()
        self.model, self.hard, self.queried = HalfSpace(), hard, []

    def forward(self, x):
        assert not torch.is_grad_enabled() and not self.training
        assert ((x >= 0) & (x <= 1)).all()
        self.queried.append(x.clone())
        logits = self.model(x)
        return torch.nn.functional.one_hot(logits.argmax(1), 2).float() if self.hard else logits


@dataclass(frozen=True)
class Plane(Architecture):
    def build(self, shape, classes):
        return HalfSpace(shape)


def learner(oracle, **settings):
    with ambient(0):
        return Substitute(**settings).learner(Task(oracle, HalfSpace().eval(), (1, 4, 4), 2))


def test_the_outcome_includes_the_attack_as_a_transfer_attack():
    attack = FGSM(Linf(0.2))
    made = Substitute(rounds=1).learner(Task(Oracle(), HalfSpace(), (1, 4, 4), 2, attack))
    step(made, images(6))
    left = made.outcome().attack
    assert (left.threat, left.attack, left.queries) == (attack.threat, attack, 6)
    assert left.sources == (made.F,)
    assert learner(Oracle()).outcome().attack is None


def images(n, seed=0):
    """Images of both classes."""
    return Rng.of_batch(seed, n).uniform((1, 4, 4))


def step(made, x, y=None, number=0):
    y = torch.zeros(len(x), dtype=torch.long) if y is None else y
    return made.step(x, y, rng=Rng.of_batch(number, len(x)))


def test_each_image_is_queried_once_and_each_round_doubles_the_queries():
    oracle = Oracle()
    made = learner(oracle, seeds=5, rounds=3, epochs=2, batch_size=4)
    x = images(7)
    queries = [step(made, x.roll(k, 0), number=k)["queries"] for k in range(8)]
    assert queries == [5, 5, 10, 10, 20, 20, 20, 20]
    assert made.outcome().queries == 20
    assert [len(queried) for queried in oracle.queried] == [4, 1, 4, 1, 4, 4, 2]
    torch.testing.assert_close(torch.cat(oracle.queried), made.images)
    assert torch.equal(made.images[:5], x[:5])
    assert torch.equal(made.labels, HalfSpace()(made.images).argmax(1))


def test_only_the_labels_of_the_oracle_are_used():
    x = images(6)
    states = []
    for hard, y in ((False, torch.zeros(6)), (True, torch.ones(6))):
        made = learner(Oracle(hard), rounds=2, epochs=1)
        for number in range(3):
            step(made, x, y.long(), number)
        states.append(made.state_dict())
    assert_same_tree(*states)


def test_augmentation_follows_the_sign_of_the_gradient_of_the_label():
    made = learner(Oracle(), network=Plane(), rounds=2, batch_size=4)
    made.query(images(6))
    made.F.w.data.neg_()  # the gradient is the substitute's, not the oracle's
    expected = []
    for x, y in zip(made.images[:6], made.labels[:6], strict=True):
        up = made.F.w.detach().sign() * (2 * y - 1)
        expected.append((x + 0.1 * up).clamp(0, 1))
    torch.testing.assert_close(made.augmented(), torch.stack(expected))


def test_the_order_of_an_epoch_depends_on_the_rng_only():
    weights = []
    for number in (0, 0, 1):
        made = learner(Oracle(), batch_size=2)
        step(made, images(6), number=number)
        weights.append(made.F.fc3.weight.detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_resuming_between_rounds_changes_nothing(tmp_path):
    """The contract resumes before the first augmentation."""
    pixels = (255 * images(24)).to(torch.uint8)
    examples = Examples.of(pixels, torch.zeros(24, dtype=torch.long), ("a", "b"))
    task = Task(Oracle().eval(), HalfSpace().eval(), (1, 4, 4), 2)
    method = Substitute(seeds=8, rounds=3, epochs=2)

    def run(steps, folder=None):
        training = Training(method, steps, batch_size=8)
        return train(training, task, lambda: examples, seed=2, folder=folder).state_dict()

    run(3, tmp_path)
    resumed = run(7, tmp_path)
    assert resumed["queries"] == 32
    assert_same_tree(resumed, run(7))


def test_attacks_on_the_substitute_transfer():
    oracle = Oracle()
    made = learner(oracle, seeds=40, rounds=4, epochs=5)
    for number in range(20):
        losses = step(made, images(40), number=number)
    substitute = made.outcome().classifier
    x, attack = images(200, seed=1), FGSM(Linf(0.2))
    y = oracle.model(x).argmax(1)
    assert losses["agreement"] > 0.9 and misclassified(substitute, x, y).float().mean() < 0.3
    transferred = misclassified(oracle.model, attack(substitute, x, y), y).float().mean()
    assert (
        transferred
        > 0.8 * misclassified(oracle.model, attack(oracle.model, x, y), y).float().mean()
    )


def test_the_black_box_can_have_a_purifier():
    class Negative(torch.nn.Module):
        def forward(self, x):
            return 1 - x

    x = images(6)
    made = learner(Defended(Negative(), Oracle()).eval())
    step(made, x)
    assert torch.equal(made.labels[:6], HalfSpace()(1 - x).argmax(1))


@pytest.mark.parametrize("name", ["seeds", "rounds", "epochs", "step_size", "lr", "batch_size"])
def test_settings_out_of_range_raise(name):
    with pytest.raises(ValueError, match=f"{name} must be (at least 1|above 0), got 0"):
        Substitute(**{name: type(getattr(Substitute, name))(0)})
