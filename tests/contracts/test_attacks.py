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
import pytest
import torch
from torch import nn

from fixtures.models import L1, HalfSpace
from mutations import fails_under
from spearshield import adversary
from spearshield.adversary import Attack, LossGradient, misclassified
from spearshield.attacks import fgsm
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.attacks.rand_fgsm import RandFGSM
from spearshield.attacks.square import Square
from spearshield.discover import discover, load, names
from spearshield.rng import Rng, ambient
from spearshield.threat import L2, Linf, ThreatModel
from spearshield.types import Images, Labels

THREATS = (Linf(0.1), L2(0.5), L1(0.3))
SHAPE = (3, 5, 4)
N = 8
QUICK = {
    "carlini_wagner": {"steps": 30, "searches": 4, "initial_c": 1.0, "lr": 0.05},
    "auto_attack": {"steps": 10, "queries": 50},
    "fab": {"steps": 10},
    "fmn": {"steps": 20, "restarts": 1},
    "guided_search": {"steps": 20, "queries": 50},
    "latent_search": {"steps": 200, "restarts": 1, "lr": 0.01},
    "orthogonal_pgd": {"steps": 20},
    "square": {"queries": 100},
    "spsa": {"steps": 30, "samples": 32},
}
"""Arguments that make slow attacks fast."""


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


def victim() -> nn.Module:
    """A small untrained network."""
    with ambient(0):
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(120, 4)
        ).eval()


def batch(model: nn.Module) -> tuple[Images, Labels]:
    """Images, some pixels of which are black or white, and the classes that the model predicts."""
    x = Rng.of_batch(0, N).uniform(SHAPE, -0.3, 1.3).clamp(0, 1)
    return x, model(x).argmax(1)


def near_the_plane(attack: Attack, ratio: float) -> tuple[HalfSpace, Images, Labels]:
    """Images at a distance of ``eps / ratio`` from the decision plane."""
    model = HalfSpace(SHAPE)
    return model, *model.images(N, attack.threat, attack.threat.eps / ratio)


@fails_under("no-op projection", (Linf, "clip", lambda self, delta: delta), attack=PGD(BALL))
@fails_under(
    "clamp of the perturbation in place of the image",
    (ThreatModel, "project", lambda self, z, x: x + self.clip(z - x).clamp(0, 1)),
    attack=FGSM(BALL),
)
@every_attack
def test_stays_inside_its_threat_model(attack):
    model = victim()
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
    model = victim()
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
    assert torch.equal(run(seed=2, ambient_seed=0), first) != draws.called


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
    model = victim().train()
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
    model = victim()
    x, y = batch(model)
    free = attack(model, x, y)
    with torch.no_grad():
        torch.testing.assert_close(attack(model.requires_grad_(False), x, y), free)


@every_attack
def test_keeps_shape_and_dtype(attack):
    model = victim()
    x, y = batch(model)
    for kind in (torch.float32, torch.float64):
        x_adv = attack(model.to(kind), x.to(kind), y)
        assert x_adv.shape == x.shape and x_adv.dtype == kind


@every_attack
def test_an_empty_batch_gives_an_empty_batch(attack):
    x_adv = attack(victim(), torch.zeros(0, *SHAPE), torch.zeros(0, dtype=torch.long))
    assert x_adv.shape == (0, *SHAPE)


def check_that_nan_passes(x):
    if ((x < 0) | (x > 1)).any():
        raise ValueError("image 5 must be in [0, 1]")


@fails_under(
    "range check that NaN passes",
    (adversary, "check_images", check_that_nan_passes),
    attack=FGSM(BALL),
    pixel=math.nan,
)
@pytest.mark.parametrize("pixel", [-0.01, 1.01, 255.0, math.nan, math.inf])
@every_attack
def test_raises_for_pixels_that_are_not_in_range(attack, pixel):
    model = victim()
    x, y = batch(model)
    x[5, 2, 4, 3] = pixel
    with pytest.raises(ValueError, match=r"image 5 .* in \[0, 1\]"):
        attack(model, x, y)


@every_attack
def test_raises_for_labels_or_randomness_of_another_length(attack, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    model = victim()
    x, y = batch(model)
    with pytest.raises(ValueError, match="8 images, 7 labels"):
        attack(model, x, y[:7])
    with pytest.raises(ValueError, match="randomness for 1"):
        attack(model, x, y, rng=Rng.of_batch(0, 1))


@every_attack
def test_raises_for_a_gradient_that_is_not_finite(attack):
    model = victim()
    x, y = batch(model)

    def steep(x: Images) -> torch.Tensor:
        return model(x) + (x - x).sqrt().flatten(1).sum(1, keepdim=True)

    if attack.gradient_free:
        assert attack(steep, x, y).isfinite().all()  # it never computes one
        return
    with pytest.raises(ValueError, match="gradient at image 0 .* not finite"):
        attack(steep, x, y)


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
