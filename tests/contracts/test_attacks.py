"""The contract of every attack. A new file in ``spearshield.attacks`` is tested automatically."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

from fixtures.models import L1, Apply, HalfSpace
from mutations import fails_under
from spearshield import adversary, gradients, inputs
from spearshield.adversary import (
    Attack,
    LossGradient,
    NoGradientError,
    NonFiniteGradientWarning,
    misclassified,
)
from spearshield.attacks import fgsm
from spearshield.attacks.automatic_bpda import AutomaticBPDA
from spearshield.attacks.deepfool import DeepFool
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.fmn import FMN
from spearshield.attacks.latent_search import LatentSearch
from spearshield.attacks.on_grid import OnGrid
from spearshield.attacks.pgd import PGD
from spearshield.attacks.rand_fgsm import RandFGSM
from spearshield.attacks.square import Square
from spearshield.discover import discover, load, name_of, names
from spearshield.method import Defended
from spearshield.rng import Rng, ambient
from spearshield.threat import L2, Linf, ThreatModel
from spearshield.types import Images, Labels

THREATS = (Linf(0.1), L2(0.5), L1(0.3))
SHAPE = (3, 5, 4)
N = 8
QUICK = {
    "carlini_wagner": {"steps": 30, "searches": 4, "initial_c": 1.0, "lr": 0.05},
    "auto_attack": {"steps": 10, "queries": 50},
    "automatic_bpda": {"steps": 20},
    "fab": {"steps": 10},
    "fmn": {"steps": 20, "restarts": 1},
    "guided_search": {"steps": 20, "queries": 50},
    "hop_skip_jump": {"queries": 500},
    "latent_search": {"steps": 200, "restarts": 1, "lr": 0.01},
    "on_grid": {"steps": 10},
    "orthogonal_pgd": {"steps": 20},
    "square": {"queries": 100},
    "spsa": {"steps": 30, "samples": 32},
}
"""Arguments that make slow attacks fast."""
REPAIR = (AutomaticBPDA, OnGrid)
"""Attacks that differentiate around a cut graph, and around gradients that are not finite."""
FIXED_STEPS = ("bim", "fgsm", "mi_fgsm", "rand_fgsm")
"""Attacks that take every step on every image."""


def supported() -> Iterator[tuple[str, Attack]]:
    """Every attack in each norm that it supports."""
    for name, kind in discover("attacks", Attack).items():
        for threat in THREATS:
            try:
                yield name, kind(threat, **QUICK.get(name, {}))
            except ValueError as error:
                assert str(threat) in str(error)  # an attack may reject a norm by name


every_attack = pytest.mark.parametrize(
    "attack", [pytest.param(a, id=f"{n}-{a.threat.norm}") for n, a in supported()]
)
BALL = Linf(0.1)
every_name = pytest.mark.parametrize("name", names("attacks"))


class Pixels(nn.Identity):
    """A purifier whose generator outputs its latent."""

    def generate(self, z):
        return z

    def search(self, x, rng):
        return x.clone(), 0 * x.flatten(1).mean(1)


def attackable(attack: Attack, model: nn.Module) -> nn.Module:
    """The model itself, or behind a purifier if the attack needs its generator."""
    return Defended(Pixels(), model) if isinstance(attack, LatentSearch) else model


def victim(attack: Attack) -> nn.Module:
    """A small untrained network."""
    with ambient(0):
        layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(120, 4)
    return attackable(attack, nn.Sequential(*layers)).eval()


def batch(model: nn.Module) -> tuple[Images, Labels]:
    """Images, some pixels of which are black or white, and the classes that the model predicts."""
    x = Rng.of_batch(0, N).uniform(SHAPE, -0.3, 1.3).clamp(0, 1)
    return x, model(x).argmax(1)


def near_the_plane(attack: Attack, ratio: float) -> tuple[nn.Module, Images, Labels]:
    """A half-space, and images at a distance of ``eps / ratio`` from its plane."""
    model = HalfSpace(SHAPE)
    images = model.images(N, attack.threat, attack.threat.eps / ratio)
    return attackable(attack, model), *images


@fails_under("no-op projection", (Linf, "clip", lambda self, delta: delta), attack=PGD(BALL))
@fails_under(
    "clamp of the perturbation in place of the image",
    (ThreatModel, "project", lambda self, z, x: x + self.clip(z - x).clamp(0, 1)),
    attack=FGSM(BALL),
)
@every_attack
def test_stays_inside_its_threat_model(attack):
    model = victim(attack)
    x, y = batch(model)
    x_adv = attack(model, x, y)
    assert attack.threat.contains(x_adv, x).all()
    assert not torch.equal(x_adv, x)


@fails_under(
    "descent in place of ascent",
    (Linf, "steepest_step", lambda self, gradient: -gradient.sign()),
    attack=FGSM(BALL),
)
@every_attack
def test_succeeds_where_it_can(attack):
    # 1.6: an attack that starts with a random step may spend a sixth of its budget on the way back.
    # 4: on so few pixels the windows of Square use the budget of L2 and L1 inefficiently.
    model, x, y = near_the_plane(attack, 4 if isinstance(attack, Square) else 1.6)
    x_adv = attack(model, x, y)
    assert not misclassified(model, x, y).any()
    assert misclassified(model, x_adv, y).all()


@every_attack
def test_cannot_beat_the_closed_form_optimum(attack):
    model, x, y = near_the_plane(attack, 0.99)
    assert not misclassified(model, attack(model, x, y), y).any()


@fails_under(
    "gradient normalised over the batch",
    (L2, "steepest_step", lambda self, gradient: gradient / gradient.norm()),
    attack=FGSM(L2(0.5)),
)
@every_attack
def test_each_image_is_independent_of_the_batch(attack):
    model, x, y = near_the_plane(attack, 1.2)
    rng = Rng.of_batch(3, N)
    together = attack(model, x, y, rng=rng)
    alone = [attack(model, x[i : i + 1], y[i : i + 1], rng=rng[i : i + 1]) for i in range(N)]
    torch.testing.assert_close(together, torch.cat(alone))


@fails_under(
    "randomness that depends on the position in the batch",
    (Rng, "__getitem__", lambda self, index: Rng(self.key, self.ids[: len(self.ids[index])])),
    attack=PGD(BALL),
)
@every_attack
def test_order_does_not_matter(attack):
    model, x, y = near_the_plane(attack, 1.2)
    rng, order = Rng.of_batch(3, N), torch.arange(N).flip(0)
    forward = attack(model, x, y, rng=rng)
    torch.testing.assert_close(attack(model, x[order], y[order], rng=rng[order]), forward[order])


@fails_under(
    "ignored seed", (Rng, "fold", lambda self, value: Rng(value, self.ids)), attack=PGD(BALL)
)
@fails_under(
    "global generator",
    (Rng, "normal", lambda self, shape: torch.randn(len(self.ids), *shape)),
    attack=RandFGSM(BALL),
)
@every_attack
def test_randomness_comes_from_the_rng_alone(attack):
    model = victim(attack)
    x, y = batch(model)

    def run(seed: int, ambient_seed: int) -> Images:
        torch.manual_seed(ambient_seed)
        before = torch.random.get_rng_state()
        x_adv = attack(model, x, y, rng=Rng.of_batch(seed, N))
        assert torch.equal(torch.random.get_rng_state(), before)
        return x_adv

    with mock.patch.object(Rng, "_bits", autospec=True, side_effect=Rng._bits) as draws:
        first = run(seed=1, ambient_seed=0)
    assert torch.equal(run(seed=1, ambient_seed=1), first)
    if isinstance(attack, OnGrid) and isinstance(attack.threat, L1):
        return  # few pixels change, and rounding makes the results of all seeds equal
    assert torch.equal(run(seed=3, ambient_seed=0), first) != draws.called


def accumulating_gradient(model, x, y, loss):
    """A loss gradient that also adds to the gradients of the weights."""
    x = x.clone().requires_grad_()
    value = loss(model(x), y)
    value.sum().backward()
    return LossGradient(value.detach(), x.grad, value.detach() > 0)


@fails_under(
    "gradients left in the weights",
    (fgsm, "loss_gradient", accumulating_gradient),
    attack=FGSM(BALL),
)
@every_attack
def test_does_not_change_model_or_inputs(attack):
    model = victim(attack).train()
    x, y = batch(model)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    x_before, y_before = x.clone(), y.clone()
    x.requires_grad_()

    x_adv = attack(model, x, y)

    assert model.training
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad and (p.grad == 1).all() for p in model.parameters())
    assert torch.equal(x, x_before) and torch.equal(y, y_before) and x.grad is None
    assert not x_adv.requires_grad
    x_adv += 1
    assert torch.equal(x, x_before)


@every_attack
def test_frozen_weights_and_no_grad_do_not_change_the_result(attack):
    model = victim(attack)
    x, y = batch(model)
    free = attack(model, x, y)
    with torch.no_grad():
        torch.testing.assert_close(attack(model.requires_grad_(False), x, y), free)


@every_attack
def test_keeps_shape_and_dtype(attack):
    model = victim(attack)
    x, y = batch(model)
    for kind in (torch.float32, torch.float64):
        x_adv = attack(model.to(kind), x.to(kind), y)
        assert x_adv.shape == x.shape and x_adv.dtype == kind


@every_attack
def test_an_empty_batch_gives_an_empty_batch(attack):
    x_adv = attack(victim(attack), torch.zeros(0, *SHAPE), torch.zeros(0, dtype=torch.long))
    assert x_adv.shape == (0, *SHAPE)


def check_that_nan_passes(x):
    if ((x < 0) | (x > 1)).any():
        raise ValueError("image 5 must be in [0, 1]")


@fails_under(
    "range check that NaN passes",
    (adversary, "check_images", check_that_nan_passes),
    attack=FGSM(BALL),
    pixel=math.nan,
    raises=NonFiniteGradientWarning,
)
@pytest.mark.parametrize("pixel", [-0.01, 1.01, 255.0, math.nan, math.inf])
@every_attack
def test_raises_for_pixels_that_are_not_in_range(attack, pixel):
    model = victim(attack)
    x, y = batch(model)
    x[5, 2, 4, 3] = pixel
    with pytest.raises(ValueError, match=r"image 5 .* in \[0, 1\]"):
        attack(model, x, y)


@every_attack
def test_raises_for_labels_or_randomness_of_another_length(attack, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    model = victim(attack)
    x, y = batch(model)
    with pytest.raises(ValueError, match="8 images, 7 labels"):
        attack(model, x, y[:7])
    with pytest.raises(ValueError, match="randomness for 1"):
        attack(model, x, y, rng=Rng.of_batch(0, 1))


@every_attack
def test_an_image_misclassified_from_the_start_is_returned_unchanged(attack):
    model = victim(attack)
    x, y = batch(model)
    wrong = torch.arange(N) % 2 == 0
    x_adv = attack(model, x, torch.where(wrong, (y + 1) % 4, y))
    moved = (x_adv != x).flatten(1).any(1)
    if name_of(attack) in FIXED_STEPS:
        assert moved[wrong].all()
    else:
        assert not moved[wrong].any()
    assert moved[~wrong].any()


MINIMAL = [
    pytest.param(a, id=f"{n}-{a.threat.norm}")
    for n, a in supported()
    # In L1 a step moves one pixel, and DeepFool may choose a black one that cannot become darker.
    if a.minimal and not (isinstance(a, DeepFool) and isinstance(a.threat, L1))
]


def without_biases(relu: bool) -> nn.Module:
    """A network whose logits are all zero for a black image; with ReLU its gradient is zero too."""
    with ambient(2):
        first, second = nn.Linear(60, 12, bias=False), nn.Linear(12, 4, bias=False)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU() if relu else nn.Identity(), second)


@fails_under(
    "a step that is lost to rounding",
    (adversary, "RESOLUTION", 0.0),
    attack=DeepFool(BALL),
    relu=False,
)
@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize("attack", MINIMAL)
def test_a_tie_is_broken(attack, relu):
    if isinstance(attack, FMN):
        attack = FMN(attack.threat)
    model, x = without_biases(relu), torch.zeros(3, *SHAPE)
    y = model(x).argmax(1)
    x_adv = attack(model, x, y)
    assert misclassified(model, x_adv, y).all()
    if not attack.gradient_free:  # few queries do not find the smallest perturbation
        assert attack.threat.distance(x_adv, x).max() < 0.1 * attack.threat.eps


class Doubled(nn.Module):
    """A network on images that it first doubles, in place or not."""

    def __init__(self, network: nn.Module, in_place: bool) -> None:
        super().__init__()
        self.network, self.in_place, self.passed = network, in_place, 0

    def forward(self, x):
        self.passed += len(x)
        return self.network(x.mul_(2) if self.in_place else 2 * x)


@fails_under(
    "model that gets the images themselves",
    (inputs._Guard, "images", lambda self, x: vars(self).update(count=len(x), seen=x) or x),
    attack=Square(BALL, **QUICK["square"]),
)
@pytest.mark.parametrize("as_function", [False, True], ids=["module", "function"])
@every_attack
def test_a_model_may_change_its_input_in_place(attack, as_function):
    if as_function and isinstance(attack, LatentSearch):
        return  # it needs the parts of the model
    twins = [Doubled(victim(FGSM(BALL)), in_place) for in_place in (False, True)]
    x, y = batch(twins[0])
    before = x.clone()
    results = []
    for twin in twins:
        twin.passed = 0
        model = attackable(attack, twin)
        results.append(attack((lambda x, m=model: m(x)) if as_function else model, x, y))
    assert torch.equal(*results)
    assert torch.equal(x, before) and attack.threat.contains(results[1], x).all()
    assert twins[0].passed == twins[1].passed
    assert not twins[1]._forward_hooks and not twins[1]._forward_pre_hooks


@every_attack
def test_every_integer_type_of_labels(attack):
    model = victim(attack)
    x, y = batch(model)
    x, y = x[:2], y[:2]
    expected = attack(model, x, y)
    for labels in (y.to(torch.uint8), y.numpy().astype("int32")):
        assert torch.equal(attack(model, x, labels), expected)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@every_attack
def test_images_in_half_precision_are_attacked_in_float32(attack, kind):
    model = victim(attack)
    x, y = batch(model)
    x, y = x[:2].to(kind), y[:2]
    x_adv = attack(model, x, y)
    assert x_adv.dtype == torch.float32
    assert torch.equal(x_adv, attack(model, x.float(), y))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@every_attack
def test_a_model_in_another_precision(attack, kind):
    model, x, y = near_the_plane(attack, 4)
    x_adv = attack(model.to(kind), x, y)
    assert x_adv.dtype == torch.float32 and attack.threat.contains(x_adv, x).all()
    if kind == torch.float64:  # the others are too coarse for steps to the boundary
        assert misclassified(lambda x: model.double()(x.double()), x_adv, y).all()
    precise = attack(model.float(), x.double(), y)
    assert precise.dtype == torch.float64 and attack.threat.contains(precise, x.double()).all()


@every_attack
def test_labels_that_are_no_classes_are_refused(attack, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    model = victim(attack)
    x, y = batch(model)
    for labels, message in (
        (y.float(), "labels are float32 .* integers"),
        (y > 0, "labels are bool .* integers"),
        (torch.eye(4)[y].long(), r"shape \(8, 4\).*argmax"),
        (y[0], r"shape \(\)"),
        (y - 4, "the smallest label is -[1-4]"),
        (y * 0 + 4, "label 4 is out of range: the model has 4 classes, .* 0 to 3"),
        (np.array(["cat"] * N), "labels are strings such as 'cat'; .* numbers"),
        (["cat"] * N, "labels are strings such as 'cat'; .* numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            attack(model, x, labels)


@every_attack
def test_outputs_that_are_no_logits_are_refused(attack, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    model = victim(attack)
    x, y = batch(model)
    for change, message in (
        (str, "the classifier returns str; it must return a tensor of logits"),
        (lambda z: z[:, 0], r"for . images it returned shape \(.,\); .* binary_logit"),
        (lambda z: z[:, :1], "one number for each image"),
        (lambda z: z[:4], r"for . images it returned shape \(4, 4\)"),
    ):
        changed = attackable(attack, Apply(lambda x, change=change: change(model(x))))
        with pytest.raises(ValueError, match=message):
            attack(changed, x, y)


def inside_no_grad(model, x):
    with torch.no_grad():
        return model(x)


CUTS = {
    "detach": lambda model, x: model(x.detach()),
    "output": lambda model, x: model(x).detach(),
    "no_grad": inside_no_grad,
    "numpy": lambda model, x: model(torch.from_numpy(x.numpy())),
    "array": lambda model, x: model(x).detach().numpy(),
}
"""Ways to cut the graph between images and logits."""


@fails_under(
    "cut graph taken for a gradient of zero",
    (
        adversary,
        "gradients",
        lambda value, *inputs, again=False: tuple(map(torch.zeros_like, inputs)),
    ),
    attack=PGD(BALL),
    cut="detach",
)
@pytest.mark.parametrize("cut", CUTS)
@every_attack
def test_a_cut_graph_is_an_error_for_attacks_that_differentiate(attack, cut, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    network = victim(FGSM(BALL))
    model = attackable(attack, Apply(lambda x: CUTS[cut](network, x)))
    x, y = batch(network)
    if attack.gradient_free:
        assert torch.equal(attack(model, x, y), attack(network, x, y))
        return
    if isinstance(attack, REPAIR):
        assert attack.threat.contains(attack(model, x, y), x).all()
        return
    with pytest.raises(NoGradientError, match="cuts the graph .* bpda"):
        attack(model, x, y)


@fails_under(
    "gradients that are not finite",
    (gradients, "finite", lambda gradient: gradient),
    attack=PGD(BALL),
)
@every_attack
def test_pixels_without_a_finite_gradient_are_left_out(attack):
    network, x, y = near_the_plane(attack, 4 if isinstance(attack, Square) else 1.6)

    def steep(x: Images) -> torch.Tensor:
        corner = x[:, :1, 0, 0]
        return network(x) + (corner - corner.detach()).sqrt()  # its slope is infinite

    model = attackable(attack, Apply(steep))
    if attack.gradient_free or isinstance(attack, AutomaticBPDA):
        assert misclassified(network, attack(model, x, y), y).all()  # it never uses one
        return
    with pytest.warns(NonFiniteGradientWarning, match="not finite") as warned:
        x_adv = attack(model, x, y)
    assert len(warned) == 1
    assert attack.threat.contains(x_adv, x).all() and misclassified(network, x_adv, y).all()


@every_attack
def test_a_budget_that_allows_every_image_is_refused(attack):
    model = victim(attack)
    x, y = batch(model)
    if attack.threat.p == math.inf:
        return  # refused by the threat model itself
    name = attack.threat.norm
    large = replace(attack, threat=replace(attack.threat, eps=70.0))
    with pytest.raises(ValueError, match=rf"{name} 70 allows .* {name}\(70 / 255\)"):
        large(model, x, y)


@every_attack
def test_is_a_frozen_value(attack):
    assert replace(attack) == attack and hash(replace(attack)) == hash(attack)
    stronger = replace(attack, threat=replace(attack.threat, eps=0.2))
    assert stronger != attack and stronger.threat.eps == 0.2
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack.threat = stronger.threat


@every_name
def test_supports_a_norm(name):
    assert name in dict(supported())


@every_name
def test_names_its_paper_and_its_arguments(name):
    assert re.search(r", (19|20)\d\d\.\s+https://", load("attacks", name).__doc__)
    kind = discover("attacks", Attack)[name]
    for field in dataclasses.fields(kind)[1:]:
        assert f"{field.name}: " in inspect.getdoc(kind), f"{field.name} is not described"


@every_name
def test_has_a_test(name):
    assert (Path(__file__).parents[1] / "attacks" / f"test_{name}.py").is_file()
