"""The contract of an architecture, checked for every classifier that is discovered."""

from __future__ import annotations

import ast
import copy
import inspect
import re
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from spearshield import discover
from spearshield.architecture import Architecture
from spearshield.classifiers import architecture
from spearshield.method import frozen
from spearshield.rng import ambient
from spearshield.types import Shape

SHAPES: tuple[Shape, ...] = ((1, 8, 8), (1, 28, 28), (3, 32, 32))
KINDS = discover.discover("classifiers", Architecture)
COMPLETE = [
    name
    for name, kind in KINDS.items()
    if all(f.default is not MISSING or f.default_factory is not MISSING for f in fields(kind))
]
"""The architectures without required fields."""

every = pytest.mark.parametrize("name", KINDS)
every_complete = pytest.mark.parametrize("name", COMPLETE)


@cache
def supported(name: str) -> dict[Shape, nn.Module]:
    """The network for each supported shape, in evaluation mode; checks the errors of the others."""
    networks = {}
    for shape in SHAPES:
        try:
            with ambient(0):
                networks[shape] = architecture(name).build(shape, 7).eval()
        except ValueError as error:
            _, h, w = shape
            assert f"{h}x{w}" in str(error), error
            assert "needs images of at least" in str(error), error
    return networks


def images(shape: Shape, n: int = 3) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


@every
def test_is_a_frozen_value(name: str) -> None:
    kind = KINDS[name]
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert (kind.__doc__ or "").strip()
    assert not (kind.__doc__ or "").startswith(f"{kind.__name__}("), "the generated docstring"


@every
def test_names_its_source(name: str) -> None:
    doc = inspect.getdoc(discover.load("classifiers", name)) or ""
    assert re.search(r"https?://\S+\.\S+", doc)
    assert doc.partition("\n")[0].endswith((".", "``."))


@every
def test_has_no_import_of_an_optional_package(name: str) -> None:
    source = Path(inspect.getfile(KINDS[name])).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            )
            assert not {"torchvision", "timm"} & {str(m).partition(".")[0] for m in modules}


@every_complete
def test_returns_finite_logits_for_the_given_classes(name: str) -> None:
    networks = supported(name)
    assert networks, "supports none of the shapes"
    for shape, network in networks.items():
        logits = network(images(shape))
        assert logits.shape == (3, 7)
        assert logits.isfinite().all()


@every_complete
def test_does_not_change_its_input(name: str) -> None:
    for shape, network in supported(name).items():
        x = images(shape)
        before = x.clone()
        network(x)
        assert torch.equal(x, before)


@every_complete
def test_the_output_for_an_image_does_not_depend_on_its_batch(name: str) -> None:
    for shape, network in supported(name).items():
        x = images(shape)
        together = network(x)
        alone = torch.cat([network(one[None]) for one in x])
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@every_complete
def test_differs_between_images_and_has_a_gradient(name: str) -> None:
    for shape, network in supported(name).items():
        x = images(shape).requires_grad_()
        logits = network(x)
        assert (logits[0] - logits[1]).abs().max() > 0
        (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), x)
        assert gradient.isfinite().all()
        assert (gradient.flatten(1).abs().amax(1) > 0).all()


@every_complete
def test_same_seed_same_weights(name: str) -> None:
    shape, network = next(iter(supported(name).items()))
    before = torch.random.get_rng_state()
    with ambient(0):
        again = architecture(name).build(shape, 7)
    with ambient(1):
        other = architecture(name).build(shape, 7)
    assert torch.equal(torch.random.get_rng_state(), before)
    state, state_again, state_other = (m.state_dict() for m in (network, again, other))
    assert state.keys() == state_again.keys()
    assert all(torch.equal(state[k], state_again[k]) for k in state)
    assert any(not torch.equal(state[k], state_other[k]) for k in state)


@every_complete
def test_normalisation_is_not_among_the_weights(name: str) -> None:
    for network in supported(name).values():
        assert not [k for k in network.state_dict() if "normalize" in k]


@every_complete
def test_copies_and_frozen_functions_have_the_same_output(name: str) -> None:
    shape, network = next(iter(supported(name).items()))
    x = images(shape)
    torch.testing.assert_close(copy.deepcopy(network)(x), network(x))
    torch.testing.assert_close(frozen(network)(x), network(x))


@every_complete
def test_trains(name: str) -> None:
    """In training mode every parameter gets a gradient."""
    shape, network = list(supported(name).items())[-1]
    network = copy.deepcopy(network).train()
    with ambient(0):
        network(images(shape, 8)).logsumexp(1).sum().backward()
    silent = [k for k, p in network.named_parameters() if p.grad is None]
    assert not silent


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no classifier 'lennet'; the closest of .* are lenet"):
        architecture("lennet")


@pytest.mark.parametrize("name", sorted(KINDS.keys() - set(COMPLETE)))
def test_a_name_with_required_fields_says_what_to_write(name: str) -> None:
    with pytest.raises(ValueError, match=r"write torchvision:NAME, timm:NAME or package\.module"):
        architecture(name)


def test_prefixes_choose_the_library() -> None:
    from spearshield.classifiers.timm_model import TimmModel
    from spearshield.classifiers.torchvision_model import TorchvisionModel
    from spearshield.classifiers.user import User

    assert architecture("torchvision:vgg19") == TorchvisionModel("vgg19", pretrained=False)
    assert architecture("timm:resnet18.a1_in1k") == TimmModel("resnet18.a1_in1k")
    assert architecture("nets.mine:build") == User("nets.mine:build")
