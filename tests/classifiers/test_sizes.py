"""Numbers of weights as stated in papers or code, and the smallest images of each network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spearshield.architecture import Normalize
from spearshield.classifiers import architecture
from spearshield.classifiers.wang_yu_resnet import WangYuResNet
from spearshield.types import Shape


@pytest.mark.parametrize(
    ("name", "shape", "classes", "weights"),
    [
        ("lenet", (1, 28, 28), 10, 431_080),
        ("lenet5", (1, 28, 28), 10, 61_706),
        ("small_cnn", (1, 28, 28), 10, 166_406),
        ("dm_small", (1, 28, 28), 10, 329_606),
        ("dm_medium", (1, 28, 28), 10, 893_418),
        ("cnn7", (1, 28, 28), 10, 13_259_338),
        ("resnet18", (3, 32, 32), 10, 11_173_962),
        ("resnet20", (3, 32, 32), 10, 269_722),
        ("resnet56", (3, 32, 32), 10, 853_018),
        ("alexnet", (3, 224, 224), 1000, 61_100_840),
        ("squeezenet", (3, 224, 224), 1000, 1_235_496),
        # 3,504,872 with batch normalisation, of whose 34,112 numbers the folded form keeps half
        ("mobilenet_v2", (3, 224, 224), 1000, 3_487_816),
    ],
)
def test_number_of_weights(name: str, shape: Shape, classes: int, weights: int) -> None:
    with torch.device("meta"):
        network = architecture(name).build(shape, classes)
    assert sum(p.numel() for p in network.parameters()) == weights


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("lenet", 16),
        ("m_cnn", 4),
        ("small_cnn", 4),
        ("dm_small", 10),
        ("dm_medium", 16),
        ("cnn7", 2),
        ("alexnet", 15),
        ("squeezenet", 17),
        ("defense_gan_a", 5),
        ("defense_gan_c", 5),
    ],
)
def test_smallest_image(name: str, smallest: int) -> None:
    """Also with sides of two lengths, so that no size is computed from the wrong one."""
    for h, w in ((smallest, smallest + 9), (smallest + 9, smallest)):
        network = architecture(name).build((1, h, w), 3).eval()
        assert network(torch.zeros(2, 1, h, w)).shape == (2, 3)
    with pytest.raises(ValueError, match=f"at least {smallest}x{smallest} pixels"):
        architecture(name).build((1, smallest + 9, smallest - 1), 3)


@pytest.mark.parametrize("side", [15, 22, 23, 28, 32, 64, 127])
def test_small_alexnet_pools_to_what_its_linear_layers_expect(side: int) -> None:
    network = architecture("alexnet").build((1, side, side), 10)
    x = torch.zeros(1, 1, side, side)
    features = network.get_submodule("features")(x)
    assert features.shape == network.get_submodule("avgpool")(features).shape


def test_alexnet_is_the_published_one_from_128_pixels() -> None:
    with torch.device("meta"):
        small = architecture("alexnet").build((3, 127, 300), 10)
        large = architecture("alexnet").build((3, 128, 128), 10)
    assert small.get_parameter("features.0.weight").shape == (32, 3, 5, 5)
    assert large.get_parameter("features.0.weight").shape == (64, 3, 11, 11)
    assert small.state_dict().keys() == large.state_dict().keys()


def test_alexnet_at_imagenet_size_sees_six_by_six_features() -> None:
    with torch.device("meta"):
        network = architecture("alexnet").build((3, 224, 224), 1000)
        features = network.get_submodule("features")(torch.empty(1, 3, 224, 224))
    assert features.shape == (1, 256, 6, 6)


def test_wang_yu_wide_network_widens_stages_and_not_the_stem() -> None:
    with torch.device("meta"):
        network = WangYuResNet(width=10).build((3, 32, 32), 10)
    assert network.get_parameter("conv1.weight").shape == (16, 3, 3, 3)
    widths = [network.get_parameter(f"layer{i}.2.conv2.weight").shape[0] for i in (1, 2, 3)]
    assert widths == [160, 320, 640]


@pytest.mark.parametrize("stem_norm", [True, False])
def test_wang_yu_network_has_20_layers_and_normalises_once_outside_blocks(stem_norm: bool) -> None:
    network = WangYuResNet(stem_norm=stem_norm).build((3, 32, 32), 10)
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    shortcuts = [m for m in layers if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(layers) - len(shortcuts) == 20
    assert len(shortcuts) == 3
    order = [name for name, _ in network.named_children()]
    assert (order.index("bn1") < order.index("layer1")) == stem_norm
    assert network.get_parameter("bn1.weight").shape == ((16,) if stem_norm else (64,))


def test_wang_yu_width_must_be_positive() -> None:
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        WangYuResNet(width=0)


def test_normalisation_by_hand() -> None:
    x = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(
        Normalize.imagenet(3)(x).flatten(),
        torch.tensor([-0.485 / 0.229, 0.044 / 0.224, 0.594 / 0.225]),
    )
    torch.testing.assert_close(Normalize.symmetric(3)(x).flatten(), torch.tensor([-1.0, 0.0, 1.0]))
    grey = Normalize.imagenet(1)(x[:, :1])
    torch.testing.assert_close(grey.flatten(), torch.tensor([-0.449 / 0.226]))
