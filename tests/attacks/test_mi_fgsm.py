"""MI-FGSM: its momentum over two steps, by hand."""

from __future__ import annotations

import pytest
import torch

from spearshield.attacks.mi_fgsm import MIFGSM
from spearshield.threat import L2, Linf

X = torch.full((1, 1, 1, 2), 0.5)
Y = torch.tensor([0])


def curved(x):
    """Two pixels (u, v), relative to grey, with the gradient (0.03 + 9.7 u, 0.01 - 2.1 v).

    ==========  =============  =======================
    (u, v)      gradient       divided by its L1 norm
    ==========  =============  =======================
    (0, 0)      (0.03, 0.01)   (0.75, 0.25)
    (0.1, 0.1)  (1, -0.2)      (0.833, -0.167)
    sum         (1.03, -0.19)  (1.583, 0.083)
    ==========  =============  =======================
    """
    u, v = (x.flatten(1) - 0.5).unbind(1)
    score = 0.03 * u + 4.85 * u**2 + 0.01 * v - 1.05 * v**2
    return torch.stack([-score, score], 1)


@pytest.mark.parametrize(
    ("mu", "expected"),
    [
        pytest.param(1.0, [0.7, 0.7], id="the first direction dominates the second"),
        pytest.param(0.1, [0.7, 0.5], id="the first direction has decayed: (0.908, -0.142)"),
        pytest.param(0.0, [0.7, 0.5], id="BIM"),
    ],
)
def test_linf_follows_the_sum_of_normalised_gradients(mu, expected):
    x_adv = MIFGSM(Linf(0.4), steps=2, step_size=0.1, mu=mu)(curved, X, Y)
    torch.testing.assert_close(x_adv.flatten(), torch.tensor(expected))


def test_l2_follows_the_sum_of_normalised_gradients():
    u, v, g = 0.0, 0.0, (0.0, 0.0)
    for _ in range(2):
        gradient = (0.03 + 9.7 * u, 0.01 - 2.1 * v)
        l1 = abs(gradient[0]) + abs(gradient[1])
        g = (0.5 * g[0] + gradient[0] / l1, 0.5 * g[1] + gradient[1] / l1)
        l2 = (g[0] ** 2 + g[1] ** 2) ** 0.5
        u, v = u + 0.1 * g[0] / l2, v + 0.1 * g[1] / l2
    x_adv = MIFGSM(L2(0.4), steps=2, step_size=0.1, mu=0.5)(curved, X, Y)
    torch.testing.assert_close(x_adv.flatten(), torch.tensor([0.5 + u, 0.5 + v]))


def test_every_iterate_stays_in_the_ball():
    seen = []
    attack = MIFGSM(Linf(0.15), steps=5, step_size=0.1)
    attack(lambda x: seen.append(x.detach()) or curved(x), X, Y)
    assert len(seen) == 5
    assert all(attack.threat.contains(x, X).all() for x in seen)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_default_steps_exactly_reach_the_boundary(steps):
    x_adv = MIFGSM(Linf(0.3), steps=steps)(lambda x: x.flatten(1), X, Y)
    torch.testing.assert_close(x_adv.flatten(), torch.tensor([0.2, 0.8]))


@pytest.mark.parametrize("field", [{"steps": 0}, {"step_size": 0.0}, {"mu": -0.1}])
def test_arguments_out_of_range_raise(field):
    with pytest.raises(ValueError, match=f"{next(iter(field))} must"):
        MIFGSM(Linf(0.3), **field)
