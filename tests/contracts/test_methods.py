"""The contract of a method, checked for every method that is discovered."""

from __future__ import annotations

import copy
import inspect
import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from mutations import fails_under
from spearshield import defended
from spearshield.adversary import check_images
from spearshield.attacks.fgsm import FGSM
from spearshield.dataset import Examples
from spearshield.discover import discover, find, name_of, names
from spearshield.experiment.overrides import override
from spearshield.judging.evaluation import check_victim
from spearshield.method import Learner, Method, Outcome, Task, frozen
from spearshield.methods import ape_gan
from spearshield.methods.ape_gan import APEGAN
from spearshield.methods.deep_ensemble import DeepEnsemble
from spearshield.methods.standard_training import StandardTraining
from spearshield.rng import Rng, ambient
from spearshield.storage import checkpoint
from spearshield.storage.serialization import dump, load
from spearshield.threat import Linf
from spearshield.training import classifier_training, guided_attack, learned_attack
from spearshield.training.loop import Training, train

SHAPE = (1, 12, 12)


class Small(torch.nn.Module):
    """A convolutional classifier with the layers whose state must be resumed."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(1, 3, 3),
            torch.nn.BatchNorm2d(3),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.2),
            torch.nn.Flatten(),
            torch.nn.Linear(300, 3),
        )

    def forward(self, x):
        return self.body(x)


@pytest.fixture
def task() -> Task:
    with ambient(0):
        return Task(Small().eval(), Small().eval(), SHAPE, 3, FGSM(Linf(0.1)))


@pytest.fixture
def examples() -> Examples:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (24, *SHAPE), generator=generator).to(torch.uint8)
    return Examples.of(pixels, torch.arange(24) % 3, ("a", "b", "c"))


@pytest.fixture(params=names("methods"))
def method(request) -> Method:
    return find("methods", Method, request.param)()


@pytest.fixture(params=[name for name in names("methods") if find("methods", Method, name).trained])
def trained(request) -> Method:
    """A method that is trained, and no fixed rule."""
    return find("methods", Method, request.param)()


SMALL = {
    "defense_gan": {"width": "4", "search.steps": "20", "search.restarts": "2"},
    "encoder_projection": {"gan.width": "4", "gan_steps": "1"},
    "s2snets": {"width": "4"},
}
"""Settings of methods that take seconds with their defaults."""


def outcome_after_a_step(method, task, examples):
    """Images, labels, and the outcome after one step on them, if the method is trained."""
    learner = learner_of(method, task)
    x, y, rng = batch(examples)
    if method.trained:
        learner.step(x, y, rng=rng)
    return x, y, learner.outcome()


def learner_of(method, task, steps=0):
    for path, text in SMALL.get(name_of(method), {}).items():
        method = override(method, path, text)
    method = method.for_steps(steps) if steps else method
    with ambient(1):
        return method.learner(task)


def batch(examples):
    return examples.images(), examples.y, Rng(0, examples.ids)


def test_is_a_value(method):
    assert method == type(method)() and hash(method) == hash(type(method)())
    assert load(json.loads(json.dumps(dump(method)))) == method


def test_names_its_paper_and_the_differences(method):
    doc = inspect.getmodule(method).__doc__
    assert method.paper.url in doc
    assert "Differences from the paper" in doc
    assert method.paper.bibtex("x").count("{") == method.paper.bibtex("x").count("}")


def state(learner) -> dict[str, torch.Tensor]:
    """Weights and buffers."""
    return {**dict(learner.named_parameters()), **dict(learner.named_buffers())}


def test_a_number_of_steps_is_enough_to_train_it(trained, task, examples):
    """A front door that is given a name and a number of steps trains every part of the method."""
    learner = learner_of(trained, task, steps=20)
    x, y, rng = batch(examples)
    before = {name: value.clone() for name, value in state(learner).items()}
    for _ in range(20):
        learner.step(x, y, rng=rng)
    moved: dict[str, bool] = {}
    for name, value in state(learner).items():
        part = name.partition(".")[0]
        moved[part] = moved.get(part, False) or not torch.equal(value, before[name])
    assert moved and all(moved.values()), moved


@fails_under(
    "deep ensemble as a method of another kind",
    (DeepEnsemble, "trains_classifier", False),
    method=DeepEnsemble(),
)
def test_declares_whether_it_trains_the_classifier(method, task, examples):
    """The view of a learned attack on it follows from the declaration."""
    *_, outcome = outcome_after_a_step(method, task, examples)
    assert outcome.retrained == method.trains_classifier


def test_has_a_test_of_its_own(method):
    name = type(method).__module__.rsplit(".")[-1]
    assert (Path(__file__).parents[1] / "methods" / f"test_{name}.py").exists()


def test_a_step_changes_the_state_and_returns_finite_losses(trained, task, examples):
    learner = learner_of(trained, task)
    before = [value.clone() for value in state(learner).values()]
    x, y, rng = batch(examples)
    losses = learner.step(x, y, rng=rng)
    assert losses and all(math.isfinite(v) for v in losses.values())
    assert not all(map(torch.equal, before, state(learner).values()))


def test_a_fixed_rule_refuses_steps(method, task, examples):
    if method.trained:
        return
    with pytest.raises(ValueError, match="needs no training; set steps to 0, got 3"):
        train(Training(method, 3, batch_size=8), task, lambda: examples, seed=0)
    with pytest.raises(ValueError, match="set the number of steps to 0"):
        learner_of(method, task).step(*batch(examples)[:2], rng=Rng(0, examples.ids))


def test_a_learning_rate_that_overflows_is_refused_before_the_first_step(trained, task, examples):
    rates = [field.name for field in fields(trained) if field.name == "lr"]
    for name in rates:
        fast = replace(trained, **{name: 1e38})
        with pytest.raises(ValueError, match=r"learning rate of \w+ is 1e\+38; choose at most 1e"):
            train(Training(fast, 3, task.learn_from, 8), task, lambda: examples, seed=0)


def test_a_missing_training_attack_is_noticed_before_the_first_step(trained, task, examples):
    """A run builds all learners first, so it must fail before hours of pretraining."""
    task = replace(task, learn_from=None)
    try:
        learner = learner_of(trained, task)
    except ValueError as error:
        assert "set learn_from" in str(error)
    else:
        x, y, rng = batch(examples)
        learner.step(x, y, rng=rng)


@fails_under(
    "training of the classifier of the task",
    (classifier_training.copy, "deepcopy", lambda network: network),
    method=StandardTraining(),
)
def test_does_not_change_the_task(method, task, examples):
    networks = (task.classifier, task.untrained)
    before = [{k: v.clone() for k, v in n.state_dict().items()} for n in networks]
    learner = learner_of(method, task)
    x, y, rng = batch(examples)
    if method.trained:
        learner.step(x, y, rng=rng)
    for network, state in zip(networks, before, strict=True):
        assert all(torch.equal(state[k], v) for k, v in network.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in network.parameters())
        assert not any(m.training for m in network.modules())


def brighter(forward):
    return lambda self, x: forward(self, x) + 1


@fails_under(
    "purifier out of range",
    (ape_gan.Generator, "forward", brighter(ape_gan.Generator.forward)),
    raises=ValueError,
    method=APEGAN(),
)
@fails_under(
    "batch statistics at test time",
    (torch.nn.BatchNorm2d, "eval", lambda self: self),
    (torch.nn.BatchNorm2d, "train", lambda self, mode=True: self),
    method=APEGAN(),
)
def test_the_outcome_is_admitted_by_the_judge(method, task, examples):
    x, _, outcome = outcome_after_a_step(method, task, examples)
    assert not any(module.training for module in outcome.defended.modules())
    check_victim(outcome.defended, SHAPE, 3)
    check_images(outcome.defended.purifier(x))
    assert torch.equal(copy.deepcopy(outcome.defended)(x), outcome.defended(x))


@fails_under(
    "images that stay float64",
    (defended, "placed", lambda x, module: x),
    (learned_attack, "placed", lambda x, module: x),
    (guided_attack, "placed", lambda x, module: x),
    raises=ValueError,
    method=APEGAN(),
)
def test_takes_float64_images_as_numpy_makes_them(method, task, examples):
    x, y, outcome = outcome_after_a_step(method, task, examples)
    victim, wide = outcome.defended, x.double()
    torch.testing.assert_close(victim(wide).float(), victim(x))
    torch.testing.assert_close(victim.purifiers(wide).float(), victim.purifiers(x))
    torch.testing.assert_close(victim.detection_score(wide).float(), victim.detection_score(x))
    if outcome.attack:
        x_adv = outcome.attack(victim, wide, y)
        assert x_adv.dtype == torch.float64
        assert outcome.attack.threat.contains(x_adv, wide).all()


def test_the_output_for_an_image_does_not_depend_on_its_batch(method, task, examples):
    x, _, outcome = outcome_after_a_step(method, task, examples)
    victim = outcome.defended
    one_by_one = torch.cat([victim(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(victim(x), one_by_one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(victim(x.flip(0)), one_by_one.flip(0), rtol=1e-4, atol=1e-5)


@fails_under(
    "optimiser that is not saved",
    (Learner, "get_extra_state", lambda self: {}),
    (Learner, "set_extra_state", lambda self, state: None),
    trained=APEGAN(),
)
def test_resuming_changes_nothing(trained, task, examples, tmp_path):
    """Half of the steps, a checkpoint, and the other half give the same bits as all steps."""
    steps = max(3, learner_of(trained, task).least_steps)
    whole = Training(trained, 2 * steps, task.learn_from, batch_size=8)
    straight = train(whole, task, lambda: examples, seed=2)
    half = Training(trained, steps, task.learn_from, batch_size=8)
    train(half, task, lambda: examples, seed=2, folder=tmp_path)
    resumed = train(whole, task, lambda: examples, seed=2, folder=tmp_path)
    assert_same_tree(resumed.state_dict(), straight.state_dict())


def assert_same_tree(a, b) -> None:
    """Weights, buffers and the state of the optimisers are equal to the bit."""
    tensors_a, tensors_b = {}, {}
    assert checkpoint._split(a, "", tensors_a) == checkpoint._split(b, "", tensors_b)
    for name, value in tensors_b.items():
        assert torch.equal(tensors_a[name], value), name


def test_accepts_colour_images_that_are_not_square(method):
    shape = (3, 16, 12)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 12, 3)).eval()
    learner = learner_of(method, Task(network, network, shape, 3, FGSM(Linf(0.1))))
    x = torch.rand(8, *shape, generator=torch.Generator().manual_seed(0))
    if method.trained:
        learner.step(x, torch.arange(8) % 3, rng=Rng.of_batch(0, 8))
    check_victim(learner.outcome().defended, shape, 3)


def test_every_file_defines_one_method():
    assert {"ape_gan", "dae", "pgd_adversarial_training", "standard_training"} <= set(
        discover("methods", Method)
    )


def test_frozen_evaluates_in_evaluation_mode_and_restores_the_mode():
    with ambient(0):
        network = Small()
    network.body[1].train(False)
    x = torch.rand(4, *SHAPE).requires_grad_()
    before = {module: module.training for module in network.modules()}
    statistics = network.body[1].running_mean.clone()
    logits = frozen(network)(x)
    assert {module: module.training for module in network.modules()} == before
    torch.testing.assert_close(logits, network.eval()(x))
    assert torch.equal(network.body[1].running_mean, statistics)
    logits.sum().backward()
    assert x.grad is not None and all(p.grad is None for p in network.parameters())


def test_an_outcome_does_not_change_the_mode_of_its_networks():
    network = Small().train()
    victim = Outcome(network).defended
    assert network.training and victim.training
    assert not Outcome(network.eval()).defended.training
