"""IBP: the loss by hand, the schedules of eps and kappa, and the layers that are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.classifiers.dm_small import DMSmall
from spearshield.classifiers.thresholded import Thresholded
from spearshield.method import Task
from spearshield.methods import ibp
from spearshield.methods.ibp import IBP
from spearshield.nets import bounded
from spearshield.rng import Rng, ambient
from spearshield.threat import Linf

EPS = 0.2
X = torch.tensor([[0.3, 0.9], [0.5, 0.6]]).view(2, 1, 1, 2)
Y = torch.tensor([0, 1])


def linear() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[2.0, -1.0], [-1.0, 1.0]]))
        network[1].bias.copy_(torch.tensor([0.1, 0.0]))
    return network.eval()


def learner(network=None, **settings):
    network = network or linear()
    return IBP(**settings).learner(Task(network, network, (1, 1, 2), 2, FGSM(Linf(EPS))))


def losses_of(trained):
    return trained.step(X, Y, rng=Rng.of_batch(0, 2))


def margins(eps):
    """The other logit minus the logit of y, at worst: z_1 - z_0 = -3a + 2b - 0.1 of pixels (a, b).

    Both pixels move by eps against y, and stay in [0, 1].
    """
    (a, b), (c, d) = X.flatten(1).tolist()
    first = -3 * (a - eps) + 2 * min(b + eps, 1) - 0.1
    second = 3 * (c + eps) - 2 * (d - eps) + 0.1
    return torch.tensor([first, second])


@fails_under("eps ignored", (ibp, "box", lambda x, eps: (x, x)))
@fails_under("box that leaves [0, 1]", (ibp, "box", lambda x, eps: (x - eps, x + eps)))
def test_the_losses_by_hand():
    """With two classes the cross-entropy is softplus of the margin."""
    losses = losses_of(learner(kappa=0.25))
    softplus = nn.functional.softplus
    assert losses["cross_entropy"] == pytest.approx(softplus(margins(0.0)).mean().item())
    assert losses["worst_cross_entropy"] == pytest.approx(softplus(margins(EPS)).mean().item())
    assert losses["bounded_accuracy"] == (margins(EPS) < 0).float().mean()


@pytest.mark.parametrize("kappa", [0.0, 0.25, 1.0])
def test_the_update_follows_the_mixture_of_both_losses(kappa):
    trained = learner(kappa=kappa, optimiser="sgd", lr=1.0)
    losses_of(trained)
    network = linear()
    clean = nn.functional.cross_entropy(network(X), Y)
    low, high = (X - EPS).clamp(0, 1).flatten(1), (X + EPS).clamp(0, 1).flatten(1)
    rows = network[1].weight - network[1].weight[Y][:, None]
    difference = torch.maximum(rows * low[:, None], rows * high[:, None]).sum(2)
    worst = nn.functional.cross_entropy(
        difference + network[1].bias - network[1].bias[Y][:, None], Y
    )
    gradient = torch.autograd.grad(kappa * clean + (1 - kappa) * worst, list(network.parameters()))
    for old, new, change in zip(
        linear().parameters(), trained.classifier.parameters(), gradient, strict=True
    ):
        torch.testing.assert_close(new, old - change)


def test_eps_grows_and_kappa_falls_over_the_warmup(monkeypatch):
    trained, seen = learner(kappa=0.2, warmup_steps=3, lr=0.0), []
    monkeypatch.setattr(ibp, "box", lambda x, eps: seen.append(eps) or bounded.box(x, eps))
    mixed, minimise = [], trained.minimise
    monkeypatch.setattr(
        trained, "minimise", lambda loss: mixed.append(loss.item()) or minimise(loss)
    )
    logs = [losses_of(trained) for _ in range(5)]
    assert seen == pytest.approx([0.05, 0.10, 0.15, 0.20, 0.20])
    kappas = [
        (loss - log["worst_cross_entropy"]) / (log["cross_entropy"] - log["worst_cross_entropy"])
        for loss, log in zip(mixed, logs, strict=True)
    ]
    assert kappas == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.2], abs=1e-5)


def test_a_few_steps_certify_more_images():
    """The bounds of a convolutional network with thresholds shrink."""
    with ambient(0):
        network = Thresholded(DMSmall()).build((1, 12, 12), 2).eval()
    task = Task(network, network, (1, 12, 12), 2, FGSM(Linf(0.2)))
    trained = IBP(kappa=0.0, lr=3e-3, warmup_steps=15).learner(task)
    y = torch.arange(16) % 2
    x = (y.float() * 0.6 + 0.2)[:, None, None, None].expand(-1, 1, 12, 12)
    logs = [trained.step(x, y, rng=Rng.of_batch(0, 16)) for _ in range(30)]
    assert logs[-1]["bounded_accuracy"] == 1


def ordinary(network):
    """In place of the weights of Shi et al.: the weights that PyTorch draws."""
    for layer in network:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.reset_parameters()


@fails_under("given weights kept", (ibp, "draw_interval_weights", lambda network: None))
@fails_under("ordinary weights", (ibp, "draw_interval_weights", ordinary))
def test_bounds_keep_their_width_with_interval_weights():
    """Behind a convolution, a linear layer and their ReLUs, within a tenth."""
    with ambient(0):
        layers = (nn.Conv2d(4, 500, 5), nn.ReLU(), nn.Flatten(), nn.Linear(500, 4000), nn.ReLU())
        network = nn.Sequential(*layers).eval()
        trained = IBP(interval_weights=True).learner(
            Task(network, network, (4, 5, 5), 4000, FGSM(Linf(EPS)))
        )
        x = torch.rand(8, 4, 5, 5)
    logits = bounded.bounded_logits(trained.classifier, x, x - 0.05, x + 0.05)
    assert (logits.upper - logits.lower).mean().item() == pytest.approx(0.1, rel=0.1)
    assert not any(layer.bias.any() for layer in trained.classifier if hasattr(layer, "bias"))


def test_without_interval_weights_a_training_starts_from_the_given_ones():
    torch.testing.assert_close(learner().classifier.state_dict(), linear().state_dict())


def test_a_number_of_steps_sets_the_warmup():
    assert IBP().for_steps(100) == IBP(decay_steps=100, warmup_steps=50)
    assert IBP(warmup_steps=7).for_steps(100) == IBP(decay_steps=100, warmup_steps=7)


def test_a_layer_without_bounds_is_refused_before_the_first_step():
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.GELU())
    with pytest.raises(ValueError, match=r"interval bounds, which fail at the layer 2 \(GELU\)"):
        learner(network)


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match=r"kappa must be at most 1, got 1\.5"):
        IBP(kappa=1.5)
    with pytest.raises(ValueError, match="set watch_every to 0, got 5"):
        IBP(watch_every=5)
