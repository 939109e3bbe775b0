"""MTL-IBP: the loss by hand, and the images of both of its terms."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from mutations import fails_under
from spearshield.adversary import Attack
from spearshield.method import Task
from spearshield.methods import mtl_ibp
from spearshield.methods.mtl_ibp import MTLIBP
from spearshield.rng import Rng
from spearshield.threat import Linf

EPS = 0.2
X = torch.tensor([[0.3, 0.9], [0.5, 0.6]]).view(2, 1, 1, 2)
Y = torch.tensor([0, 1])


@dataclass(frozen=True)
class Darker(Attack):
    def perturb(self, model, x, y, rng):
        return x - self.threat.eps


def linear() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[2.0, -1.0], [-1.0, 1.0]]))
        network[1].bias.copy_(torch.tensor([0.1, 0.0]))
    return network.eval()


def learner(**settings):
    network = linear()
    return MTLIBP(**settings).learner(Task(network, network, (1, 1, 2), 2, Darker(Linf(EPS))))


def expected(eps):
    """The losses of the two terms, from the margin z_1 - z_0 = -3a + 2b - 0.1 of pixels (a, b)."""
    a, b = X.flatten(1).T
    sign = torch.tensor([1.0, -1.0])  # of the margin against y
    attacked = sign * (-3 * (a - eps) + 2 * (b - eps) - 0.1)
    worst = torch.stack(
        [
            -3 * (a - eps) + 2 * (b + eps).clamp(max=1) - 0.1,
            3 * (a + eps) - 2 * (b - eps) + 0.1,
        ]
    )[[0, 1], [0, 1]]
    softplus = nn.functional.softplus
    return softplus(attacked).mean().item(), softplus(worst).mean().item()


@fails_under(
    "bounds around the adversarial image", (mtl_ibp, "box", lambda x, eps: (x - 2 * eps, x))
)
@fails_under("attack at full eps in the warm-up", (mtl_ibp, "scaled", lambda attack, share: attack))
def test_the_loss_by_hand_in_the_warmup(monkeypatch):
    trained = learner(alpha=0.25, warmup_steps=1, lr=0.0)
    mixed, minimise = [], trained.minimise
    monkeypatch.setattr(
        trained, "minimise", lambda loss: mixed.append(loss.item()) or minimise(loss)
    )
    for eps, alpha in ((EPS / 2, 0.125), (EPS, 0.25)):
        losses = trained.step(X, Y, rng=Rng.of_batch(0, 2))
        attacked, worst = expected(eps)
        assert losses["cross_entropy"] == pytest.approx(attacked)
        assert losses["worst_cross_entropy"] == pytest.approx(worst)
        assert mixed[-1] == pytest.approx((1 - alpha) * attacked + alpha * worst)


def test_a_number_of_steps_sets_the_warmup():
    assert MTLIBP().for_steps(100) == MTLIBP(decay_steps=100, warmup_steps=50)


def test_a_layer_without_bounds_is_refused_before_the_first_step():
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.Softmax(1))
    task = Task(network, network, (1, 1, 2), 2, Darker(Linf(EPS)))
    with pytest.raises(ValueError, match=r"fail at the layer 2 \(Softmax\)"):
        MTLIBP().learner(task)


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match=r"alpha must be at least 0, got -1"):
        MTLIBP(alpha=-1.0)
