"""On grid: its grids by hand, and gates that recognise attacked images by their pixel values."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.adversary import misclassified
from spearshield.attacks import on_grid
from spearshield.attacks.apgd import APGD
from spearshield.attacks.automatic_bpda import AutomaticBPDA
from spearshield.attacks.on_grid import OnGrid, Rounded, coarsest, grids
from spearshield.threat import L2, Linf

SHAPE, N = (1, 5, 5), 6
THREAT = Linf(0.2)
GRIDS = {
    "8 bits": torch.arange(256) / 255,
    "16 levels in 8 bits": (torch.arange(17) * 255 / 16).round() / 255,
    "tenths": torch.arange(11) / 10,
    "uneven": torch.tensor([0.0, 0.3, 0.42, 0.5, 0.61, 0.7, 1.0]),
}


class Gate(nn.Module):
    """A half space that returns the label of the nearest clean image for pixels off a grid."""

    def __init__(self, levels, x, y):
        super().__init__()
        self.plane, self.levels, self.x, self.y = HalfSpace(SHAPE), levels, x, y

    def forward(self, x):
        off = (x.detach()[..., None] - self.levels).abs().amin(-1).flatten(1).amax(1) > 1e-5
        nearest = torch.cdist(x.detach().flatten(1), self.x.flatten(1)).argmin(1)
        stored = one_hot(self.y[nearest], 2).to(x)
        return torch.where(off[:, None], stored, self.plane(x))


def gated(name):
    """A gate, and images on its grid near the plane."""
    levels = GRIDS[name]
    x, _ = HalfSpace(SHAPE).images(N, THREAT, 0.03)
    x = levels[(x[..., None] - levels).abs().argmin(-1)]
    x[:, :, 0, : len(levels)] = levels[:5]  # every image shows several levels
    y = HalfSpace(SHAPE)(x).argmax(1)
    return Gate(levels, x, y).eval(), x, y


every_grid = pytest.mark.parametrize("name", GRIDS)


@fails_under(
    "rounding to the nearest level of 8 bits",
    (on_grid, "grids", lambda x: iter([(torch.arange(256) / 255).expand(len(x), -1)])),
    name="uneven",
)
@every_grid
def test_passes_a_gate_that_stops_other_attacks(name):
    model, x, y = gated(name)
    off_grid = AutomaticBPDA(THREAT, steps=20)(model, x, y)
    assert not misclassified(model, off_grid, y).any()
    x_adv = OnGrid(THREAT, steps=20)(model, x, y)
    assert THREAT.contains(x_adv, x, tolerance=1e-6).all()
    reachable = HalfSpace(SHAPE)
    assert misclassified(reachable, x_adv, y).tolist() == misclassified(model, x_adv, y).tolist()
    assert misclassified(model, x_adv, y).double().mean() >= 0.8


def test_the_smallest_number_of_levels():
    x = torch.tensor([[0, 0.5], [0.2, 0.4], [0, 1], [0.123, 0.5], [16 / 255, 80 / 255]])
    assert coarsest(x[:, None, None], bits=False).tolist() == [2, 5, 1, 255, 255]
    assert coarsest(x[4:, None, None], bits=True).tolist() == [16]


def test_pixels_are_rounded_towards_the_clean_image():
    x = torch.tensor([0.4, 0.4, 0.4, 0.41, 0.0]).view(1, 1, 1, 5)
    x_adv = torch.tensor([0.59, 0.21, 0.4, 0.48, 1.0]).view(1, 1, 1, 5)
    rounded = Rounded(lambda z: z, x, torch.arange(11)[None] / 10).round(x_adv)
    torch.testing.assert_close(rounded, torch.tensor([0.5, 0.3, 0.4, 0.41, 1.0]).view(1, 1, 1, 5))


def test_images_of_different_grids_share_a_batch():
    x = torch.stack([torch.full((1, 2, 2), 0.5), torch.full((1, 2, 2), 0.2)])
    levels = [each[:, :6] for each in grids(x)][1]
    torch.testing.assert_close(levels[0], torch.tensor([0, 0.5, 1, 1, 1, 1]))
    torch.testing.assert_close(levels[1], torch.tensor([0, 0.2, 0.4, 0.6, 0.8, 1]))


def test_an_attack_that_splits_the_batch_is_refused():
    model = HalfSpace(SHAPE)
    near, far = (model.images(N, THREAT, distance) for distance in (0.03, 0.25))
    x, y = (torch.cat(pair) for pair in zip(near, far, strict=True))
    attack = APGD(THREAT, "margin", steps=20)
    with pytest.raises(ValueError, match="choose an attack without early stopping"):
        OnGrid(THREAT, attack)(model, x, y)
    with pytest.raises(ValueError, match="the attack is on"):
        OnGrid(THREAT, APGD(L2(0.1)))
