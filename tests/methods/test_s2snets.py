"""S2SNets: two stages of one learner, the encoder that the second leaves alone, and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutations import fails_under
from spearshield.method import Task
from spearshield.methods import s2snets
from spearshield.methods.s2snets import S2SNets, S2SNetsLearner
from spearshield.nets.segnet import Decoder, Encoder, SegNet, stages_for
from spearshield.rng import Rng, ambient
from spearshield.storage.weights import save_weights

SHAPE = (1, 12, 12)
X = torch.rand(16, *SHAPE, generator=torch.Generator().manual_seed(0))
Y = (X.mean((1, 2, 3)) > X.mean()).long()


def learner(**settings) -> S2SNetsLearner:
    with ambient(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(144, 2)).eval()
        method = S2SNets(**{"width": 4, "stages": 2, "structure_steps": 3, **settings})
        return method.learner(Task(model, model, SHAPE, 2))


def steps(trained, count):
    return [dict(trained.step(X, Y, rng=Rng.of_batch(step, 16))) for step in range(count)]


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module, before):
    return {name for name, value in module.state_dict().items() if not value.equal(before[name])}


def test_the_first_steps_train_structure_and_the_others_the_signal():
    losses = steps(learner(), 5)
    assert [set(loss) for loss in losses] == [{"mse"}] * 3 + [{"cross_entropy", "accuracy"}] * 2


def test_structure_trains_both_networks_and_needs_no_labels():
    trained, other = learner(), learner()
    encoder, decoder = state_of(trained.E), state_of(trained.D)
    steps(trained, 3)
    assert any("weight" in name for name in changed(trained.E, encoder))
    assert any("weight" in name for name in changed(trained.D, decoder))
    for step in range(3):
        other.step(X, 1 - Y, rng=Rng.of_batch(step, 16))
    assert not changed(trained.E, state_of(other.E))


@fails_under(
    "an encoder in training mode",
    (Encoder, "eval", lambda self: self.train()),
)
def test_the_signal_changes_the_decoder_alone():
    trained = learner(structure_steps=0)
    encoder, decoder = state_of(trained.E), state_of(trained.D)
    steps(trained, 2)
    assert not changed(trained.E, encoder)  # not even the averages of batch normalisation
    assert changed(trained.D, decoder)


def test_the_signal_starts_with_an_optimiser_of_its_own():
    """The first step of Adam changes each weight by the learning rate, if it has no history."""
    trained = learner(structure_steps=5, lr=1e-2, signal_lr=1e-3)
    steps(trained, 5)
    before = [weight.detach().clone() for weight in trained.D.parameters()]
    trained.step(X, Y, rng=Rng.of_batch(5, 16))
    pairs = zip(trained.D.parameters(), before, strict=True)
    moved = torch.cat([(now - old).abs().flatten() for now, old in pairs])
    assert moved.median().item() == pytest.approx(1e-3, rel=0.02)


def test_training_lowers_both_losses():
    trained = learner(structure_steps=150, lr=3e-3, signal_lr=3e-3)
    losses = steps(trained, 200)
    assert losses[149]["mse"] < 0.5 * losses[0]["mse"]
    assert losses[199]["cross_entropy"] < losses[150]["cross_entropy"]


@fails_under(
    "a detached encoder",
    (SegNet, "forward", lambda self, x: self.D(*self.E(x.detach())).clamp(0, 1)),
    raises=RuntimeError,
)
def test_the_gradient_of_the_defence_passes_decoder_and_encoder():
    trained = learner(structure_steps=30, lr=3e-3)
    steps(trained, 40)
    defended = trained.outcome().defended
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(defended(x)[:, 0].sum(), x)
    assert gradient.abs().amax((1, 2, 3)).min() > 0
    assert not any(module.training for module in defended.modules())


def test_weights_of_a_first_stage_can_be_loaded(tmp_path):
    trained = learner()
    steps(trained, 3)
    path = tmp_path / "weights.safetensors"
    save_weights(trained.outcome().defended, path)
    loaded = learner(structure_steps=0, weights=str(path))
    torch.testing.assert_close(
        loaded.outcome().purifier(X), trained.outcome().purifier(X), rtol=0, atol=0
    )
    with pytest.raises(ValueError, match="E does not fit"):
        learner(structure_steps=0, weights=str(path), width=8)
    save_weights(nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match="holds no E and D"):
        learner(structure_steps=0, weights=str(path))


def vgg16(width):
    """The first convolutions of a VGG16, with the names of torchvision."""
    names, before, tensors = (0, 2, 5, 7), 1, {}
    for position, after in zip(names, (width, width, 2 * width, 2 * width), strict=True):
        layer = nn.Conv2d(before, after, 3)
        tensors[f"features.{position}.weight"] = layer.weight.detach()
        tensors[f"features.{position}.bias"] = layer.bias.detach()
        before = after
    return tensors | {"classifier.0.weight": torch.zeros(3, 3)}


def test_the_encoder_can_start_from_vgg16(tmp_path):
    path = tmp_path / "vgg16.pt"
    tensors = vgg16(4)
    torch.save(tensors, path)
    trained = learner(vgg16=str(path))
    convolutions = [layer for layer in trained.E.modules() if isinstance(layer, nn.Conv2d)]
    assert torch.equal(convolutions[3].weight, tensors["features.7.weight"])
    assert torch.equal(convolutions[0].bias, tensors["features.0.bias"])
    with pytest.raises(ValueError, match="give VGG16 and width=64"):
        learner(vgg16=str(path), width=8)


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (33, 21)])
def test_the_size_of_an_image_is_kept(size):
    network = SegNet(Encoder(3, 2, 3), Decoder(3, 2, 3)).eval()
    assert network(torch.rand(2, 3, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize(("side", "stages"), [(4, 1), (12, 2), (28, 3), (32, 3), (96, 5), (256, 5)])
def test_the_stages_follow_from_the_size(side, stages):
    assert stages_for(side) == stages


def test_a_number_of_steps_is_divided_between_the_stages():
    assert S2SNets().for_steps(101) == S2SNets(structure_steps=50, decay_steps=51)
    assert S2SNets(weights="w").for_steps(10) == S2SNets(weights="w", decay_steps=10)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"stages": 6}, "stages must be at most 5"),
        ({"width": 0}, "width"),
        ({"weights": "w", "structure_steps": 1}, "set structure_steps=0"),
    ],
)
def test_settings_out_of_range_raise(setting, message):
    with pytest.raises(ValueError, match=message):
        S2SNets(**setting)


def test_the_signal_is_what_the_frozen_classifier_sees(monkeypatch):
    seen = []
    inner = s2snets.frozen

    def watched(module):
        forward = inner(module)

        def recorded(x):
            seen.append(x)
            return forward(x)

        return recorded

    monkeypatch.setattr(s2snets, "frozen", watched)
    trained = learner(structure_steps=0)
    weights = state_of(trained.task.classifier)
    steps(trained, 1)
    assert seen[0].min() >= 0 and seen[0].max() <= 1 and seen[0].requires_grad
    assert not changed(trained.task.classifier, weights)
