"""A folder with a user's own networks and purifiers, weights and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

MODULE = """
import torch
from torch import nn

def random():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3))

def loaded():
    network = random()
    network.load_state_dict(torch.load(__file__.replace("own_nets.py", "w.pt"), weights_only=True))
    return network

def new_head():
    network = loaded()
    network[2] = nn.Linear(64, 3)
    return network

def without_weights():
    return nn.Sequential(nn.AdaptiveAvgPool2d((3, 1)), nn.Flatten())

class Rounds(nn.Module):
    def forward(self, x):
        return (4 * x).round() / 4

def build_rounds(shape):
    assert shape == (1, 8, 8)
    return Rounds()

rounds = Rounds()

def quarters(x):
    return (4 * x).round() / 4

def denoiser():
    return nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 1, 3, 1, 1), nn.Sigmoid())

def outside():
    return nn.BatchNorm2d(1)

def half():
    return nn.AvgPool2d(2)

def two(x, y):
    return x + y

class Form(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.own, self.form, self.calls = loaded(), form, 0
    def forward(self, x):
        self.calls += 1
        return self.form(self.own(x), self.calls)

def mapping():
    return Form(lambda z, calls: {"hidden": z[:, :1], "logits": z})

def shares():
    return Form(lambda z, calls: z.softmax(1))

def double():
    return loaded().double()

def compiled():
    return torch.jit.script(loaded().eval())

def raises():
    return Form(lambda z, calls: {}["weights"])

def tires():
    return Form(lambda z, calls: z if calls < 5 else {}["weights"])

def with_classes(classes):
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, classes))

def breaks(x):
    return x if len(x) < 20 else {}["images"]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with functions of a user's own, a classifier's weights, and images in an npz."""
    (tmp_path / "own_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "own_nets", raising=False)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3))
    torch.save(network.state_dict(), tmp_path / "w.pt")
    x = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=np.arange(20) % 3, x=x, y=np.arange(20) % 3)
    return tmp_path
