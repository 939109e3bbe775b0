"""Models of torchvision and timm, tested where these are installed and work."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch
from torch import nn

from spearshield.architecture import Architecture, Normalize
from spearshield.classifiers import architecture
from spearshield.classifiers.torchvision_model import TorchvisionModel
from spearshield.method import frozen
from spearshield.rng import ambient
from spearshield.types import Shape


def _installed(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"no working {name}: {error}")


@pytest.fixture
def torchvision() -> ModuleType:
    return _installed("torchvision")


@pytest.fixture
def timm() -> ModuleType:
    return _installed("timm")


def built(spec: str | Architecture, shape: Shape, classes: int = 10) -> nn.Module:
    value = architecture(spec) if isinstance(spec, str) else spec
    with ambient(0):
        return value.build(shape, classes)


def test_torchvision_model_takes_pixels_and_keeps_its_names(torchvision: ModuleType) -> None:
    network = built("torchvision:resnet18", (3, 32, 32)).eval()
    plain = torchvision.models.resnet18(num_classes=10).eval()
    plain.load_state_dict(network.state_dict())
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network(x), plain(Normalize.imagenet(3)(x)))
    torch.testing.assert_close(frozen(network)(x), network(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_torchvision_inception_returns_logits_in_training(
    torchvision: ModuleType, name: str
) -> None:
    network = built(f"torchvision:{name}", (3, 299, 299))
    assert network.training
    assert network(torch.rand(2, 3, 299, 299)).shape == (2, 10)


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1"])
def test_our_networks_return_the_logits_of_torchvisions(torchvision: ModuleType, name: str) -> None:
    theirs = built(f"torchvision:{name}", (3, 224, 224)).eval()
    ours = built(name.partition("1")[0], (3, 224, 224)).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(1, 3, 224, 224)
    torch.testing.assert_close(ours(x), theirs(x))


def test_torchvision_refusals(torchvision: ModuleType) -> None:
    with pytest.raises(ValueError, match="no model 'resnet81'; the closest of .*resnet18"):
        built("torchvision:resnet81", (3, 32, 32))
    with pytest.raises(ValueError, match="resnet18 does not take 1x28x28 images"):
        built("torchvision:resnet18", (1, 28, 28))
    with pytest.raises(ValueError, match="vit_b_16 does not take 3x32x32 images: Wrong image"):
        built("torchvision:vit_b_16", (3, 32, 32))
    with pytest.raises(ValueError, match=r"have 1000 classes, not 10; use timm:resnet18"):
        built(TorchvisionModel("resnet18", pretrained=True), (3, 32, 32))


def test_timm_model_takes_pixels_and_keeps_its_names(timm: ModuleType) -> None:
    network = built("timm:resnet18", (3, 32, 32)).eval()
    plain = timm.create_model("resnet18", num_classes=10).eval()
    plain.load_state_dict(network.state_dict())
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network(x), plain(Normalize.imagenet(3)(x)))
    torch.testing.assert_close(frozen(network)(x), network(x))


def test_timm_normalisation_has_the_values_of_the_model(timm: ModuleType) -> None:
    network = built("timm:vit_tiny_patch16_224", (3, 224, 224))
    assert network.get_buffer("spearshield_mean").flatten().tolist() == [0.5] * 3


def test_timm_takes_grey_images(timm: ModuleType) -> None:
    assert built("timm:resnet18", (1, 28, 28))(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_timm_refusals(timm: ModuleType) -> None:
    with pytest.raises(ValueError, match="no model 'resnet81'; the closest of .*resnet18"):
        built("timm:resnet81", (3, 32, 32))
    with pytest.raises(ValueError, match="vit_tiny_patch16_224 does not take 3x32x32 images"):
        built("timm:vit_tiny_patch16_224", (3, 32, 32))
