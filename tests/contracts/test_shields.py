"""The contract of a shield, checked for every method that yields a defence."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from contracts.test_methods import SHAPE, SMALL, Small
from mutations import fails_under
from spearshield import api, defended
from spearshield.attacks.fgsm import FGSM
from spearshield.discover import find, names
from spearshield.experiment.card import Card, ClassifierCard
from spearshield.experiment.overrides import override
from spearshield.experiment.shield import Shield
from spearshield.method import Method, Task
from spearshield.rng import ambient
from spearshield.threat import Linf
from spearshield.training.loop import Training

THREAT = Linf(0.1)

FORM = r"they must be (floats in \[0, 1\], or )?uint8.*"
"""Part of every refusal of images."""

every_method = pytest.mark.parametrize("name", names("methods"))


def shield_of(name: str, network: nn.Module) -> Shield:
    """The shield of a training without a step; skips a method that yields an attack."""
    method = find("methods", Method, name)()
    for path, text in SMALL.get(name, {}).items():
        method = override(method, path, text)
    attack = FGSM(THREAT)
    with ambient(1):
        outcome = method.learner(Task(network, network, SHAPE, 3, attack)).outcome()
    if not outcome.is_defence:
        pytest.skip(f"{name} yields an attack")
    about = ClassifierCard("Small")
    training = Training(method, 0, attack)
    return Shield(outcome, Card("shield", name, training, THREAT, 0, SHAPE, ("a", "b", "c"), about))


@pytest.fixture
def network() -> nn.Module:
    with ambient(0):
        return Small().eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))


RULES = [name for name in names("methods") if not find("methods", Method, name).trained]


@pytest.mark.parametrize("name", RULES)
def test_a_fixed_rule_is_exported_or_refused_in_one_line(name, network, tmp_path):
    pytest.importorskip("onnxscript")
    shield = shield_of(name, network)
    try:
        shield.export_onnx(tmp_path / "shield.onnx")
    except ValueError as error:
        assert "cannot be exported" in str(error) and "\n" not in str(error)


@every_method
def test_without_the_users_network_it_purifies_or_asks_for_it(name, network, x, tmp_path):
    shield = shield_of(name, network)
    shield.save(tmp_path)
    asked = r"this shield protects Small, .* name it with --classifier"
    try:
        loaded = api.load(tmp_path)
    except ValueError as error:
        assert re.search(asked, str(error)) and not shield.purifiers
        return
    torch.testing.assert_close(loaded.purify(x), shield.purify(x))
    with pytest.raises(ValueError, match=asked):
        loaded(x)


@fails_under(
    "8-bit numbers that are not divided by 255",
    (defended, "as_input", lambda x: torch.as_tensor(x).float()),
    name="ape_gan",
)
@every_method
def test_8_bit_images_are_those_from_0_to_1(name, network):
    shield = shield_of(name, network)
    pixels = torch.randint(0, 256, (5, *SHAPE), generator=torch.Generator().manual_seed(0)).byte()
    x = pixels.float() / 255
    for form in (pixels, pixels.numpy(), x.numpy()):
        assert torch.equal(shield(form), shield(x))
        assert torch.equal(shield.purify(form), shield.purify(x))
        assert torch.equal(shield.detection_score(form), shield.detection_score(x))


@every_method
def test_images_of_another_form_are_refused_in_one_line(name, network):
    shield, x = shield_of(name, network), torch.rand(5, *SHAPE)
    for wrong in (x[0], x.flatten(1), (255 * x).long(), x > 0.5):
        for door in (shield, shield.purify, shield.detection_score):
            with pytest.raises(ValueError, match=FORM) as refused:
                door(wrong)
            assert "\n" not in str(refused.value)


@every_method
def test_images_of_another_size_are_refused_by_every_door(name, network):
    shield, y = shield_of(name, network), torch.arange(4) % 3
    x = torch.rand(4, 1, 14, 12, generator=torch.Generator().manual_seed(0))
    doors = {
        "audit": lambda: api.audit(shield, x, y, progress=False),
        "purifier": lambda: api.audit(shield, x, y, purifier=nn.Identity(), progress=False),
        "attack": lambda: api.attack(shield, x, y, progress=False),
        "transfer": lambda: api.transfer_matrix({"a": shield, "b": shield}, x, y, progress=False),
        "purify": lambda: shield.purify(x),
    }
    said = rf"\(1, 14, 12\); {name} was trained on \(1, 12, 12\); --size 12x12 resizes files"
    for door in doors.values():
        with pytest.raises(ValueError, match=said):
            door()


@every_method
def test_no_images_give_no_logits(name, network, x):
    shield = shield_of(name, network)
    assert shield(x[:0]).shape == (0, 3)
    assert shield.purify(x[:0]).shape == (0, *SHAPE)
    assert shield.detection_score(x[:0]).shape == (0,)
