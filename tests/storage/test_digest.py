"""Digests: equal for equal content, different for any difference that matters."""

from __future__ import annotations

import hashlib

import torch

from spearshield.storage.digest import digest, weights_digest


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


def test_the_digest_of_weights_is_of_names_and_values_alone():
    layer = torch.nn.Linear(2, 2)
    same = torch.nn.Linear(2, 2)
    same.load_state_dict(layer.state_dict())
    same.note = "more"
    assert weights_digest(layer) == weights_digest(same)
    assert weights_digest(torch.nn.Sequential(layer)) != weights_digest(layer)
    same.bias.data[0] += 1
    assert weights_digest(layer) != weights_digest(same)
