"""SegNet: the convolutions of a VGG16 in any order of their names."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spearshield.nets.segnet import Encoder
from spearshield.storage.tensor_files import read_groups


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_convolutions_are_ordered_by_number(tmp_path, suffix):
    """A safetensors file has features.10 before features.2."""
    encoder, path = Encoder(3, 2, 3), tmp_path / f"vgg16{suffix}"
    own = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    tensors = {}
    for position, layer in zip((0, 2, 5, 7, 10, 12, 14), own, strict=True):
        tensors[f"features.{position}.weight"] = torch.rand_like(layer.weight)
        tensors[f"features.{position}.bias"] = torch.rand_like(layer.bias)
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    (read,) = read_groups(path).values()
    encoder.transplant(read)
    for position, layer in zip((0, 2, 5, 7, 10, 12, 14), own, strict=True):
        assert torch.equal(layer.weight, tensors[f"features.{position}.weight"])
        assert torch.equal(layer.bias, tensors[f"features.{position}.bias"])
