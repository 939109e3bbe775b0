"""Models A to F: layers, dropout as in paper and code, and unit-norm initial weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spearshield.architecture import Architecture
from spearshield.classifiers.defense_gan_a import DefenseGANA
from spearshield.classifiers.defense_gan_b import DefenseGANB
from spearshield.classifiers.defense_gan_c import DefenseGANC
from spearshield.classifiers.defense_gan_d import DefenseGAND
from spearshield.classifiers.defense_gan_e import DefenseGANE
from spearshield.classifiers.defense_gan_f import DefenseGANF
from spearshield.rng import ambient

MODELS = (DefenseGANA, DefenseGANB, DefenseGANC, DefenseGAND, DefenseGANE, DefenseGANF)
MNIST = (1, 28, 28)


def dropped(architecture: Architecture) -> list[float]:
    """The probabilities to drop, in the order of the layers."""
    network = architecture.build(MNIST, 10)
    return [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)]


def test_dropout_as_the_paper_writes_it() -> None:
    assert [dropped(model()) for model in MODELS] == [
        [0.25, 0.5],
        [0.2, 0.5],
        [0.25, 0.5],
        [0.5],
        [],
        [],
    ]


@pytest.mark.parametrize(
    ("model", "expected"),
    [(DefenseGANA, [0.75, 0.5]), (DefenseGANB, [0.8, 0.5]), (DefenseGANC, [0.75, 0.5])],
)
def test_dropout_as_the_release_reads_it(
    model: type[DefenseGANA | DefenseGANB | DefenseGANC], expected: list[float]
) -> None:
    assert dropped(model(keep_probability=True)) == expected


def test_model_b_read_as_keeping_leaves_a_fifth_of_the_pixels() -> None:
    network = DefenseGANB(keep_probability=True).build(MNIST, 10).train()
    with ambient(0):
        kept = network.get_submodule("dropout1")(torch.ones(20, *MNIST))
    assert float((kept > 0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(kept.max()) == pytest.approx(5)


@pytest.mark.parametrize("model", MODELS)
def test_initial_weights_have_unit_norm_per_output_unit(model: type[Architecture]) -> None:
    with ambient(0):
        network = model().build(MNIST, 10)
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) in {3, 4}
    for layer in layers:
        norms = layer.weight.detach().flatten(1).norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))
        assert layer.bias is not None
        assert not layer.bias.any()


def test_initial_weights_are_gaussian() -> None:
    """Of 784 independent Gaussian numbers scaled to norm 1 the fourth moment is 3 / 784^2."""
    with ambient(0):
        network = DefenseGANE().build(MNIST, 10)
    fourth = (network.get_parameter("fc1.weight").detach() * 28) ** 4
    assert float(fourth.mean()) == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize(
    ("model", "layer", "expected"),
    [
        (DefenseGANA, "conv1", (64, 28, 28)),
        (DefenseGANA, "conv2", (64, 12, 12)),
        (DefenseGANB, "conv1", (64, 14, 14)),
        (DefenseGANB, "conv2", (128, 5, 5)),
        (DefenseGANB, "conv3", (128, 1, 1)),
        (DefenseGANC, "conv1", (128, 28, 28)),
        (DefenseGANC, "conv2", (64, 12, 12)),
    ],
)
def test_layer_shapes(
    model: type[Architecture], layer: str, expected: tuple[int, int, int]
) -> None:
    network = model().build(MNIST, 10)
    seen = []
    network.get_submodule(layer).register_forward_hook(lambda _m, _x, y: seen.append(y.shape[1:]))
    network(torch.zeros(2, *MNIST))
    assert seen == [expected]


@pytest.mark.parametrize(
    ("with_dropout", "without"), [(DefenseGAND, DefenseGANE), (DefenseGANB, DefenseGANF)]
)
def test_models_without_dropout_load_the_weights_of_models_with_dropout(
    with_dropout: type[Architecture], without: type[Architecture]
) -> None:
    source = with_dropout().build(MNIST, 10).eval()
    target = without().build(MNIST, 10).train()
    target.load_state_dict(source.state_dict())
    x = torch.rand(2, *MNIST)
    assert torch.equal(target(x), source(x))


@pytest.mark.parametrize("model", [DefenseGANB, DefenseGANF])
def test_images_too_small_for_three_convolutions(model: type[Architecture]) -> None:
    with pytest.raises(ValueError, match="at least 27x27 pixels, got 26x40"):
        model().build((1, 26, 40), 10)
    assert model().build((1, 27, 40), 10)(torch.zeros(1, 1, 27, 40)).shape == (1, 10)
