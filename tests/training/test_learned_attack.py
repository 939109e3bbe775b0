"""Learned attacks satisfy the contract of attacks, and make no queries."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from contracts import test_attacks as contract
from fixtures.models import HalfSpace
from spearshield.dataset import Examples
from spearshield.judging.evaluation import evaluate
from spearshield.judging.trial import Trial
from spearshield.method import Defended, Task
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.rng import Rng
from spearshield.storage.serialization import dump
from spearshield.threat import L2, Linf
from spearshield.training.learned_attack import AttackAsModule, AttackFrom, LearnedAttack


class Shift(torch.nn.Module):
    """Adds one number to every pixel; the image may leave [0, 1]."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = torch.nn.Parameter(torch.tensor(by))

    def forward(self, x):
        return x + self.by


def attack(by=0.3, threat=None):
    return LearnedAttack(threat or Linf(0.1), Shift(by).eval())


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=str)
@pytest.mark.parametrize(
    "contract_test",
    [
        contract.test_stays_inside_its_threat_model,
        contract.test_cannot_beat_the_closed_form_optimum,
        contract.test_each_image_is_independent_of_the_batch,
        contract.test_order_does_not_matter,
        contract.test_randomness_comes_from_the_rng_alone,
        contract.test_does_not_change_model_or_inputs,
        contract.test_frozen_weights_and_no_grad_do_not_change_the_result,
        contract.test_keeps_shape_and_dtype,
        contract.test_an_empty_batch_gives_an_empty_batch,
        contract.test_is_a_frozen_value,
    ],
)
def test_satisfies_the_contract_of_attacks(contract_test, threat):
    contract_test(attack(threat=threat))


def test_the_output_is_projected_into_the_threat_model():
    x = torch.full((1, 1, 2, 2), 0.95)
    x[0, 0, 0, 0] = 0.2
    x_adv = attack()(HalfSpace(), x, torch.tensor([0]))
    torch.testing.assert_close(x_adv, torch.tensor([[[[0.3, 1.0], [1.0, 1.0]]]]))


def test_a_network_that_works_in_place_leaves_the_images_alone():
    class InPlace(Shift):
        def forward(self, x):
            return x.add_(self.by)

    x = Rng.of_batch(0, 4).uniform((1, 4, 4))
    before, y = x.clone(), torch.zeros(4, dtype=torch.long)
    x_adv = LearnedAttack(Linf(0.1), InPlace(0.3).eval())(HalfSpace(), x, y)
    assert torch.equal(x, before) and torch.equal(x_adv, attack()(HalfSpace(), x, y))


def test_the_victim_is_not_queried():
    def not_queried(x):
        raise AssertionError("queried")

    x = torch.full((2, 1, 4, 4), 0.5)
    assert not torch.equal(attack()(not_queried, x, torch.tensor([0, 1])), x)


def test_an_output_of_another_shape_raises():
    x = torch.full((2, 1, 4, 4), 0.5)
    with pytest.raises(ValueError, match=r"turns \(2, 1, 4, 4\) into \(2, 16\)"):
        LearnedAttack(Linf(0.1), torch.nn.Flatten().eval())(HalfSpace(), x, torch.tensor([0, 1]))


def test_a_network_in_training_mode_raises():
    network = torch.nn.Sequential(Shift(0.1), torch.nn.BatchNorm2d(1)).eval()
    network[1].train()
    x = torch.full((2, 1, 4, 4), 0.5)
    with pytest.raises(ValueError, match=r"training mode; call .eval\(\)"):
        LearnedAttack(Linf(0.1), network)(HalfSpace(), x, torch.tensor([0, 1]))


def test_a_learned_attack_can_be_evaluated_and_trained_on():
    model = HalfSpace().eval()
    pixels = torch.full((4, 1, 4, 4), 100, dtype=torch.uint8)
    examples = Examples.of(pixels, torch.zeros(4, dtype=torch.long), ("dark", "light"))
    brighter = attack(0.5, Linf(0.5))
    victim = Defended(torch.nn.Identity(), model).eval()
    assert evaluate(victim, brighter, examples).robust_acc == 0
    task = Task(model, model, (1, 4, 4), 2, brighter)
    learner = PGDAdversarialTraining(warmup_steps=1).learner(task)
    losses = learner.step(examples.images(), examples.y, rng=Rng(0, examples.ids))
    assert losses["accuracy"] == 0  # bright images with the labels of dark ones


def test_as_a_module_it_returns_the_same_images():
    x = torch.full((2, 1, 4, 4), 0.95)
    y = torch.tensor([0, 1])
    assert torch.equal(AttackAsModule(attack())(x), attack()(HalfSpace(), x, y))


def test_an_attack_from_a_training_cannot_be_called():
    attack_from = AttackFrom(Linf(0.1), "cycle_adv_gan")
    assert attack_from.display_name == "cycle_adv_gan"
    with pytest.raises(ValueError, match="the attack of 'cycle_adv_gan'"):
        attack_from(HalfSpace(), torch.full((1, 1, 4, 4), 0.5), torch.tensor([0]))


def test_the_dump_depends_on_weights_and_layers():
    def key(value):
        return json.dumps(dump(Trial(value)))

    assert key(attack()) == key(attack())
    assert len({key(attack()), key(attack(by=0.31)), key(attack(threat=Linf(0.2)))}) == 3
    layers = [torch.nn.ReLU(), torch.nn.Tanh()]
    assert len({key(replace(attack(), network=torch.nn.Sequential(n))) for n in layers}) == 2
