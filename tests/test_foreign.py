"""Errors inside a user's own network, purifier or gradient: the user's, with their place."""

from __future__ import annotations

import re

import jaxtyping
import pytest
import torch
from torch import nn

from fixtures.models import Affine, Apply
from mutations import fails_under
from spearshield import api, foreign
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.hop_skip_jump import HopSkipJump
from spearshield.attacks.pgd import PGD
from spearshield.attacks.square import Square
from spearshield.defended import Defended
from spearshield.foreign import ForeignError
from spearshield.gradients import NoGradientError
from spearshield.threat import Linf

THREAT = Linf(0.1)
HERE = re.escape(__file__)


def missing_key(x):
    return {}["weights"]


def exhausted(x):
    return next(iter([]))


def endless(x):
    return endless(x)


def silent(x):
    raise AssertionError


def no_memory(x):
    raise MemoryError


ERRORS = {
    "KeyError": (missing_key, KeyError, "KeyError: 'weights'"),
    "IndexError": (lambda x: x[9], IndexError, "IndexError: index 9 is out of bounds"),
    "AttributeError": (lambda x: x.nothing, AttributeError, "AttributeError: .*'nothing'"),
    "OSError": (lambda x: open("/no/file"), OSError, "FileNotFoundError: .*/no/file"),  # noqa: SIM115, PTH123
    "StopIteration": (exhausted, StopIteration, "StopIteration"),
    "RecursionError": (endless, RecursionError, "maximum recursion depth"),
    "no message": (silent, AssertionError, "AssertionError"),
    "no memory": (no_memory, MemoryError, "MemoryError"),
    "several lines": (lambda x: int("1\n2"), ValueError, "invalid literal"),
}


@fails_under(
    "errors of a user's network passed on",
    (foreign, "_is_ours", lambda error: True),
    raises=KeyError,
    name="KeyError",
)
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_with_its_type_and_place(name):
    function, kind, message = ERRORS[name]
    x = torch.zeros(2, 1, 4, 4)
    for caller in (api.as_classifier(function), Defended(nn.Identity(), Apply(function))):
        with pytest.raises(
            ForeignError, match=rf"fails on images of shape \(2, 1, 4, 4\): {message}"
        ) as said:
            caller(x)
        assert isinstance(said.value.__cause__, kind) and "\n" not in str(said.value)
        assert re.search(rf"\(at {HERE}:\d+\)$", str(said.value))


def test_errors_of_this_package_pass():
    def cuts(x):
        raise NoGradientError

    with pytest.raises(NoGradientError):
        foreign.call(cuts, torch.zeros(1))
    with pytest.raises(ValueError, match="mean and std are for 3 channels, images have 1") as said:
        foreign.call(
            api.as_classifier(cuts, mean=(0.5,) * 3, std=(0.5,) * 3), torch.zeros(1, 1, 2, 2)
        )
    assert not isinstance(said.value, ForeignError)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_reason_of_torchscript_is_its_last_line():
    fixed = torch.jit.trace(Apply(lambda x: x.reshape(1, 16)[:, :2]), torch.zeros(1, 1, 4, 4))
    with pytest.raises(ForeignError, match=r"RuntimeError: shape '\[1, 16\]' is invalid for input"):
        api.as_classifier(fixed)(torch.zeros(3, 1, 4, 4))


def test_a_message_that_goes_on_in_its_second_line():
    with pytest.raises(ForeignError, match=r"state_dict for Linear: Missing key\(s\)"):
        foreign.call(nn.Linear(2, 2).load_state_dict, {})


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise KeyError("gradient")


class Own(Affine):
    """Fails from call ``last`` on, on batches of ``size``, or in the backward pass."""

    def __init__(self, last: int = 10**9, size: int = 0, backward: bool = True) -> None:
        super().__init__(3)
        self.calls, self.last, self.size, self.backward = 0, last, size, backward

    def reset_parameters(self):
        """Keeps the weights."""

    def forward(self, x):
        self.calls += 1
        if self.calls > self.last:
            raise KeyError("call")
        if len(x) == self.size:
            raise KeyError("size")
        return super().forward(x if self.backward else NoBackward.apply(x))


X = (torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
Y = Affine(3)(X).argmax(1)


def by_size(x):
    if len(x) == 4:
        raise KeyError("size")
    return x


DOORS = {
    "audit": lambda model, **more: api.audit(
        model, X, Y, attacks=[PGD(THREAT, steps=2)], batch_size=6, progress=False, **more
    ),
    "examination": lambda model, **more: api.audit(
        model, X, Y, threat=THREAT, batch_size=6, progress=False, **more
    ),
    "attack": lambda model, **more: api.attack(
        model, X, Y, threat=THREAT, batch_size=6, progress=False, **more
    ),
    "protect": lambda model: api.protect(
        model, X, Y, method="pgd_adversarial_training", threat=THREAT, steps=2, batch_size=4,
        held_out=0, progress=False,
    ),
    "learn_attack": lambda model: api.learn_attack(
        model, X, Y, method="uap", threat=THREAT, steps=2, batch_size=4, progress=False
    ),
    "bare attack": lambda model: PGD(THREAT, steps=4)(model.eval(), X[:4], Y[:4]),
}  # fmt: skip
MODELS = {
    "at once": {"last": 0},
    "later": {"last": 2},
    "batch size": {"size": 4},
    "backward": {"backward": False},
}


@pytest.mark.parametrize(
    ("door", "model"),
    [(d, m) for d in DOORS for m in MODELS if d != "examination" or m == "later"],
)
def test_every_door_shows_an_error_of_a_network(door, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind = {"backward": "gradient", "batch size": "size"}.get(model, "call")
    with pytest.raises(ForeignError, match=rf"KeyError: '{kind}' \(at {HERE}:\d+\)") as said:
        DOORS[door](Own(**MODELS[model]))
    assert isinstance(said.value.__cause__, KeyError) and "\n" not in str(said.value)


@pytest.mark.parametrize("door", ["audit", "attack"])
@pytest.mark.parametrize("purifier", [missing_key, by_size, Apply(by_size)])
def test_every_door_shows_an_error_of_a_purifier(door, purifier):
    with pytest.raises(ForeignError, match=rf"fails on images .*KeyError: .* \(at {HERE}:\d+\)"):
        DOORS[door](Affine(3), purifier=purifier)


def test_an_error_becomes_a_finding_with_its_place():
    attacks = [FGSM(THREAT), Square(THREAT, queries=2)]
    report = api.audit(Own(backward=False), X, Y, attacks=attacks, progress=False)
    (found,) = (found for found in report.findings if found.check == "could_not_run")
    assert re.search(rf"KeyError: 'gradient' \(at {HERE}:\d+\)", found.means)


def test_an_error_of_a_function_in_an_attack(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for attack in (FGSM(THREAT), HopSkipJump(THREAT)):
        for function in (missing_key, exhausted, endless):
            with pytest.raises(ForeignError, match=f"{function.__name__} fails on images"):
                attack(function, X, Y)
    with pytest.raises(ForeignError, match="Apply under FGSM fails on .*StopIteration"):
        FGSM(THREAT)(Apply(exhausted).eval(), X, Y)
