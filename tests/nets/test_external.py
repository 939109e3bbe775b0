"""Networks of other packages: one-line errors, and normalisation that keeps their names."""

from __future__ import annotations

import copy
from urllib.error import URLError

import pytest
import torch
from torch import nn

from spearshield.architecture import Normalize
from spearshield.nets import external


def test_normalisation_keeps_the_names_of_weights() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    plain = copy.deepcopy(network)
    external.normalise(network, Normalize.symmetric(3))
    x = torch.rand(2, 3, 2, 2)
    torch.testing.assert_close(network(x), plain(2 * x - 1))
    assert network.state_dict().keys() == plain.state_dict().keys()


def test_a_copy_has_its_own_mean_and_deviation() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    external.normalise(network, Normalize.symmetric(3))
    twin = copy.deepcopy(network).double()
    assert twin(torch.rand(2, 3, 2, 2, dtype=torch.float64)).dtype == torch.float64
    assert network(torch.rand(2, 3, 2, 2)).dtype == torch.float32


def test_weights_that_cannot_be_downloaded() -> None:
    def create() -> nn.Module:
        raise URLError("Name or service not known\nsecond line")

    with pytest.raises(ValueError, match="weights of vgg19 could not be downloaded") as caught:
        external.published("vgg19", create)
    assert "\n" not in str(caught.value)
    assert "pretrained=false" in str(caught.value)


def test_the_check_does_not_change_running_statistics() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 3))
    before = copy.deepcopy(network.state_dict())
    external.fitted(network, (3, 2, 2), 3, "mine")
    after = network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert network.training


def test_an_error_without_a_message_is_named_by_its_type() -> None:
    assert external.reason(AssertionError()) == "AssertionError"
