"""Classifiers that all oracles attack, and the comparison of their results with ours."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from spearshield.adversary import misclassified
from spearshield.rng import Rng, ambient, permutation
from spearshield.threat import L2, Linf, ThreatModel
from spearshield.types import Images, Labels


@dataclass(frozen=True, eq=False)
class Victim:
    """A classifier, 500 test images, and budgets that break some of the images."""

    model: nn.Module
    x: Images
    y: Labels
    linf: Linf
    l2: L2

    def threat(self, norm: type[ThreatModel]) -> ThreatModel:
        return {Linf: self.linf, L2: self.l2}[norm]

    def start(self, threat: ThreatModel) -> Images:
        """The start of the first restart of our PGD, before its projection."""
        return threat.sample_perturbation(self.x, Rng.of_batch(0, len(self.x)).fold(0))


@cache
def digits() -> Victim:
    """The embedded 8x8 digits, and a network that is trained on them in seconds."""
    data = load_digits()
    x, y = torch.from_numpy(data.images).float()[:, None] / 16, torch.from_numpy(data.target)
    order = permutation(len(x), 0, 0)
    test, train = order[:500], order[500:]
    with ambient(0):
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 10),
        )
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(12):
        for part in train[permutation(len(train), 0, epoch)].split(64):
            adam.zero_grad()
            cross_entropy(model(x[part]), y[part]).backward()
            adam.step()
    return Victim(model.eval(), x[test], y[test], Linf(0.12), L2(0.6))


@cache
def mnist(root: Path) -> Victim:
    """MNIST's first test images and a network that was trained against FGSM."""

    def read(name: str, start: int) -> torch.Tensor:
        raw = gzip.decompress((root / "mnist" / name).read_bytes())
        return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=start).copy())

    x = read("t10k-images-idx3-ubyte.gz", 16)[: 500 * 784].reshape(500, 1, 28, 28).float() / 255
    y = read("t10k-labels-idx1-ubyte.gz", 8)[:500].long()
    model = nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    with np.load(root / "weights" / "mnist_small_advtrain_fgsm.npz") as weights:
        model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    return Victim(model.eval(), x, y, Linf(0.33), L2(2.0))


@pytest.fixture
def victim(request: pytest.FixtureRequest) -> Victim:
    if request.param == "mnist":
        return mnist(request.getfixturevalue("data_dir"))
    return digits()


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """The oracles draw from the global generators."""
    state = np.random.get_state()
    np.random.seed(0)
    with ambient(0):
        yield
    np.random.set_state(state)


@pytest.fixture
def agree(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Asserts that the accuracies under two attacks differ by at most 1.5 percentage points.

    Both are also recorded for JUnit reports.
    """

    def check(victim: Victim, ours: Images, theirs: Images | np.ndarray) -> None:
        hits = [~misclassified(victim.model, torch.as_tensor(x), victim.y) for x in (ours, theirs)]
        accuracy = [100 * float(h.float().mean()) for h in hits]
        request.node.user_properties.append(("ours, theirs", accuracy))
        assert 5 < accuracy[0] < 95  # otherwise any two attacks agree
        assert abs(accuracy[0] - accuracy[1]) <= 1.5

    return check
