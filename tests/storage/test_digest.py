"""Digests: equal for equal content, different for any difference that matters."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from spearshield.storage.digest import digest, network_digest


def test_the_digest_is_the_sha256_of_the_parts_with_kind_and_length():
    assert digest() == hashlib.sha256().hexdigest()
    assert digest("ab") == hashlib.sha256(b"str:2;ab").hexdigest()
    pixels = torch.tensor([[1, 2]], dtype=torch.uint8)
    expected = hashlib.sha256(b"bytes:1;atorch.uint8(1, 2):2;\x01\x02").hexdigest()
    assert digest(b"a", pixels) == expected


def test_every_difference_of_parts_shows():
    x = torch.arange(6.0)
    variants = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        (b"ab", "c"),
        ("c", "ab"),
        (x,),
        (x.reshape(2, 3),),
        (x.reshape(3, 2),),
        (x.double(),),
        (x.view(torch.int32),),
        (-x,),
        (x[:0],),
        (x[0],),
        (x[0].reshape(1),),
    ]
    assert len({digest(*parts) for parts in variants}) == len(variants)


def test_layout_and_gradient_do_not_matter():
    x = torch.rand(2, 3, 4, 5)
    same = digest(x)
    assert digest(x.to(memory_format=torch.channels_last)) == same
    assert digest(x.clone().requires_grad_()) == same
    assert digest(x.mT.contiguous().mT) == same


def test_all_dtypes_have_a_digest():
    kinds = (torch.bool, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.complex64)
    assert len({digest(torch.ones(2).to(kind)) for kind in kinds}) == len(kinds)


@dataclass(frozen=True)
class Settings:
    steps: int = 1


class Scaled(nn.Module):
    def __init__(self, **settings) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1), persistent=False)
        self.layer = nn.Conv2d(1, 1, 3)
        with torch.no_grad():
            self.layer.weight.fill_(0.5)
            self.layer.bias.zero_()
        for name, value in settings.items():
            setattr(self, name, value)


def test_a_network_built_again_has_the_same_digest():
    settings = {"scale": 2.0, "activation": torch.nn.functional.relu, "search": Settings()}
    first, second = Scaled(**settings), Scaled(**settings)
    assert network_digest(first) == network_digest(second)
    second.eval().to(memory_format=torch.channels_last)
    assert network_digest(first) == network_digest(second)


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n.mean.fill_(1),
        lambda n: n.layer.weight.data.fill_(1),
        lambda n: setattr(n.layer, "stride", (2, 2)),
        lambda n: setattr(n, "scale", 3.0),
        lambda n: setattr(n, "activation", torch.nn.functional.gelu),
        lambda n: setattr(n, "search", Settings(2)),
        lambda n: setattr(n, "sizes", [1, 2]),
        lambda n: setattr(n, "layer", nn.Identity()),
        lambda n: n.add_module("more", nn.Identity()),
        lambda n: n.double(),
    ],
)
def test_every_difference_of_networks_shows(change):
    settings = {"scale": 2.0, "activation": torch.nn.functional.relu, "search": Settings()}
    network = Scaled(**settings)
    before = network_digest(network)
    change(network)
    assert network_digest(network) != before


def test_the_code_of_a_user_network_is_covered(tmp_path):
    def built(body: str) -> nn.Module:
        path = tmp_path / f"net_{len(body)}.py"
        path.write_text(f"from torch import nn\nclass Net(nn.Module):\n    {body}\n")
        spec = importlib.util.spec_from_file_location("users_net", path)
        module = importlib.util.module_from_spec(spec)
        monkey.setitem(__import__("sys").modules, "users_net", module)
        spec.loader.exec_module(module)
        return module.Net()

    with pytest.MonkeyPatch.context() as monkey:
        one = network_digest(built("def forward(self, x): return x"))
        two = network_digest(built("def forward(self, x): return x + 1"))
        assert one != two
