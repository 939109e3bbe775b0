"""The content of networks: equal for what computes the same, different for any difference."""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mutations import fails_under
from spearshield.classifiers.lenet import LeNet
from spearshield.storage import content as content_module
from spearshield.storage.content import content, network_digest
from spearshield.storage.installed import commit, source_digest, version_of


@dataclass(frozen=True)
class Settings:
    steps: int = 1


class Table:
    """A callable with state."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x):
        return x * self.scale


def shift(x, by=1.0):
    return x + by


def captured(value):
    return lambda x: x * value


class Net(nn.Module):
    def __init__(self, **attributes) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1), persistent=False)
        self.layer = nn.Conv2d(1, 1, 3)
        with torch.no_grad():
            self.layer.weight.fill_(0.5)
            self.layer.bias.zero_()
        for name, value in attributes.items():
            setattr(self, name, value)


def attributes():
    return {
        "scale": 2.0,
        "activation": torch.nn.functional.relu,
        "search": Settings(),
        "plain": torch.ones(2),
        "array": np.arange(3.0),
        "layers": {"a": [nn.Linear(1, 1, bias=False).requires_grad_(False)]},
        "table": Table(1.0),
        "shift": functools.partial(shift, by=2.0),
        "closure": captured(0.5),
        "kinds": {torch.float32, torch.float64},
        "lock": threading.RLock(),
        "call_kwargs": {"a": 1},
    }


def built() -> Net:
    net = Net(**attributes())
    net.layers["a"][0].weight.fill_(1)
    return net


def hooked(factor):
    def change(net):
        net.layer.register_forward_hook(lambda module, x, y: y * factor)

    return change


def test_a_network_built_again_has_the_same_digest():
    first, second = built(), built()
    assert network_digest(first) == network_digest(second)
    second.eval().to(memory_format=torch.channels_last)
    assert network_digest(first) == network_digest(second)
    assert content(first).unknown == ()
    second.lock = None
    first.lock = None
    assert network_digest(copy.deepcopy(first)) == network_digest(second)


def test_the_mode_counts_where_it_is_asked_for_also_of_layers_that_are_not_registered():
    first, second = built().eval(), built().eval()
    second.layers["a"][0].eval()
    assert network_digest(first) == network_digest(second)
    assert content(first) != content(second)
    assert content(first) != content(built())


def test_hooks_count_by_what_they_do_and_not_by_their_number():
    first, second, third = built(), built(), built()
    for net, factor in ((first, 2), (second, 2), (third, 3)):
        hooked(factor)(net)
    assert network_digest(first) == network_digest(second) != network_digest(third)


CHANGES = {
    "buffer outside the state": lambda n: n.mean.fill_(1),
    "weight": lambda n: n.layer.weight.data.fill_(1),
    "setting of a layer": lambda n: setattr(n.layer, "stride", (2, 2)),
    "number": lambda n: setattr(n, "scale", 3.0),
    "function": lambda n: setattr(n, "activation", torch.nn.functional.gelu),
    "function of torch": lambda n: setattr(n, "activation", torch.relu),
    "frozen value": lambda n: setattr(n, "search", Settings(2)),
    "new attribute": lambda n: setattr(n, "sizes", [1, 2]),
    "layer": lambda n: setattr(n, "layer", nn.Identity()),
    "new layer": lambda n: n.add_module("more", nn.Identity()),
    "precision": lambda n: n.double(),
    "tensor held as an attribute": lambda n: n.plain.add_(1),
    "array": lambda n: n.array.__setitem__(0, 9.0),
    "layer in a dictionary": lambda n: n.layers["a"][0].weight.fill_(2),
    "key of a dictionary": lambda n: n.layers.update(b=n.layers.pop("a")),
    "state of a callable": lambda n: setattr(n.table, "scale", 2.0),
    "bound argument": lambda n: setattr(n, "shift", functools.partial(shift, by=3.0)),
    "captured value": lambda n: setattr(n, "closure", captured(0.25)),
    "constant of a lambda": lambda n: setattr(n, "closure", lambda x: x * 3),
    "bound method": lambda n: setattr(n, "closure", Table(4.0).__call__),
    "set": lambda n: n.kinds.add(torch.float16),
    "hook": hooked(2),
    "pre-hook": lambda n: n.register_forward_pre_hook(lambda module, x: None),
    "forward of one instance": lambda n: setattr(n, "forward", captured(1)),
    "argument by name": lambda n: n.call_kwargs.update(b=n.call_kwargs.pop("a")),
    "parametrization": lambda n: nn.utils.parametrizations.weight_norm(n.layer),
}


@fails_under(
    "code and attributes that are not tensors left out",
    (content_module, "network_digest", lambda n: str([*n.state_dict().values()])),
    change="bound argument",
)
@pytest.mark.parametrize("change", CHANGES)
def test_every_difference_of_networks_shows(change):
    net = built()
    before = content_module.network_digest(net)
    CHANGES[change](net)
    assert content_module.network_digest(net) != before


HELPER = """
def scaled(x):
    return x * 2
def unnamed(x):
    return x - 7
class Base:
    def more(self, x):
        return x
"""
MODULE = """
import torch
from torch import nn
import users_helper
from users_helper import Base, scaled
FACTOR = 2.0
TABLE = {"a": [1, 2]}
MEAN = torch.zeros(3)
UNUSED = 1
def inner(x):
    return x + 1
def outer(x):
    return inner(x)
def decorated(function):
    def call(self, x):
        return function(self, x) * 1
    return call
class Net(Base, nn.Module):
    limit = 5
    @decorated
    def forward(self, x):
        y = outer(x) * FACTOR + TABLE["a"][0] - MEAN.mean()
        z = [users_helper.scaled(part) for part in y]
        z = [getattr(users_helper, "un" + "named")(part) for part in z]
        def late(v):
            from users_helper import scaled as again
            return again(v)
        return self.activation(late(z[0]) + scaled(y))
    @property
    def rate(self):
        return 0.5
    @staticmethod
    def activation(x):
        return x.relu()
def build():
    return Net()
"""


@pytest.fixture
def network(tmp_path, monkeypatch):
    """Builds the network of a user's modules with changed source code."""
    count = 0

    def imported(name, source):
        nonlocal count
        count += 1
        path = tmp_path / f"{name}_{count}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    def build(old="", new=""):
        imported("users_helper", HELPER.replace(old, new) if old in HELPER else HELPER)
        return imported("users_net", MODULE.replace(old, new)).build()

    return build


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x * 2", "x * 3"),
        ("        return x\n", "        return -x\n"),
        ("x + 1", "x + 2"),
        ("FACTOR = 2.0", "FACTOR = 3.0"),
        ("[1, 2]", "[3, 2]"),
        ("torch.zeros", "torch.ones"),
        ("return inner(x)", "return inner(-x)"),
        ("function(self, x) * 1", "function(self, x) * 2"),
        ("again(v)", "again(-v)"),
        ("x - 7", "x - 8"),
        ("limit = 5", "limit = 6"),
        ("x.relu()", "x.tanh()"),
        ("return 0.5", "return 0.6"),
        ("users_helper.scaled(part)", "users_helper.Base(part)"),
        ("Net(Base, nn.Module)", "Net(nn.Module)"),
    ],
)
def test_the_code_that_a_users_network_runs_is_covered(network, old, new):
    assert old in MODULE + HELPER
    assert network_digest(network()) != network_digest(network(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [("UNUSED = 1", "UNUSED = 2"), ("FACTOR = 2.0", "# a comment\n\nFACTOR = 2.0"), ("", "")],
)
def test_code_that_it_does_not_run_is_not(network, old, new):
    assert network_digest(network()) == network_digest(network(old, new))
    assert content(network()).unknown == ()


def reads_a_file(x):
    with open(__file__) as file:  # noqa: PTH123
        return x * len(file.read())


def imports_at_the_first_call(x):
    import users_module_that_is_not_loaded

    return users_module_that_is_not_loaded(x)


@pytest.mark.parametrize(
    "value",
    [
        (i for i in range(3)),
        reads_a_file,
        imports_at_the_first_call,
        lambda x: eval("x + 1"),
        torch.ones(2, device="meta"),
        sys.stdout.buffer if hasattr(sys.stdout, "buffer") else sys.__stdout__.buffer,
    ],
    ids=["generator", "file", "import", "eval", "meta", "stream"],
)
def test_what_cannot_be_determined_never_has_the_same_digest_again(value):
    net = Net(held=[value])
    assert content(net).unknown
    assert network_digest(net) != network_digest(net)


def test_cycles_end():
    net = built()
    net.parent = [net]
    net.table.owner = net.parent
    net.layer.weight.owner = net
    again = built()
    again.parent = [again]
    again.table.owner = again.parent
    assert network_digest(net) == network_digest(again)
    again.table.scale = 9.0
    assert network_digest(net) != network_digest(again)


PROGRAM = """
import json, torch
from storage.test_content import built
from spearshield.storage.content import network_digest
print(json.dumps(network_digest(built())))
"""


def test_the_digest_is_the_same_in_another_process(monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root / 'src'}:{root / 'tests'}")
    digests = set()
    for seed in "12":
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
        digests.add(json.loads(done.stdout))
    assert len(digests) == 1


def test_a_lenet_takes_less_than_50_milliseconds():
    net = LeNet().build((1, 28, 28), 10)
    network_digest(net)
    began = time.process_time()
    network_digest(net)
    assert time.process_time() - began < 0.05


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script_modules_are_told_apart():
    def scripted(factor):
        return torch.jit.trace(captured(factor), torch.ones(2))

    assert network_digest(Net(f=scripted(2.0))) != network_digest(Net(f=scripted(3.0)))


def test_order_in_a_dictionary_counts():
    one, two = OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)
    assert network_digest(Net(d=one)) != network_digest(Net(d=two))


def test_installed_code_has_a_version_and_a_users_code_has_none():
    assert version_of("spearshield.attacks.pgd") == source_digest()
    assert version_of("torch.nn").startswith(torch.__version__.partition("+")[0])
    assert version_of("json") == version_of("sys") == sys.version.split()[0]
    assert version_of(__name__) is None and version_of("no_such_package") is None


def test_the_commit_is_the_head_of_the_checkout_or_nothing():
    root = Path(__file__).parents[2]
    found = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    inside = found.returncode == 0 and (root / ".git").exists()
    assert commit() == (found.stdout.strip() if inside else None)
