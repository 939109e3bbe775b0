"""The contract of a shield, checked for every method that yields a defence."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from contracts.test_methods import SHAPE, SMALL, Small
from spearshield.api import load
from spearshield.attacks.fgsm import FGSM
from spearshield.discover import find, name_of, names
from spearshield.experiment.card import Card, ClassifierCard
from spearshield.experiment.overrides import override
from spearshield.experiment.shield import Shield
from spearshield.method import Method, Task
from spearshield.rng import ambient
from spearshield.threat import Linf
from spearshield.training.loop import Training

THREAT = Linf(0.1)


def shield_of(method: Method, network: nn.Module) -> Shield:
    """The shield of a training without a step."""
    for path, text in SMALL.get(name_of(method), {}).items():
        method = override(method, path, text)
    attack = FGSM(THREAT)
    with ambient(1):
        outcome = method.learner(Task(network, network, SHAPE, 3, attack)).outcome()
    if not outcome.is_defence:
        pytest.skip(f"{name_of(method)} yields an attack")
    about = ClassifierCard("Small")
    training = Training(method, 0, attack)
    name = name_of(method)
    return Shield(outcome, Card("shield", name, training, THREAT, 0, SHAPE, ("a", "b", "c"), about))


@pytest.fixture
def network() -> nn.Module:
    with ambient(0):
        return Small().eval()


@pytest.fixture(params=names("methods"))
def shield(request, network) -> Shield:
    return shield_of(find("methods", Method, request.param)(), network)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))


RULES = [name for name in names("methods") if not find("methods", Method, name).trained]


@pytest.mark.parametrize("name", RULES)
def test_a_fixed_rule_is_exported_or_refused_in_one_line(name, network, tmp_path):
    pytest.importorskip("onnxscript")
    shield = shield_of(find("methods", Method, name)(), network)
    try:
        shield.export_onnx(tmp_path / "shield.onnx")
    except ValueError as error:
        assert "cannot be exported" in str(error) and "\n" not in str(error)


def test_without_the_users_network_it_purifies_or_asks_for_it(shield, x, tmp_path):
    shield.save(tmp_path)
    asked = r"this shield protects Small, .* name it with --classifier$"
    try:
        loaded = load(tmp_path)
    except ValueError as error:
        assert re.search(asked, str(error)) and not shield.purifiers
        return
    torch.testing.assert_close(loaded.purify(x), shield.purify(x))
    with pytest.raises(ValueError, match=asked):
        loaded(x)
