"""MagNet: errors and thresholds by hand, and the images that are rejected."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import nn

from fixtures.models import HalfSpace
from spearshield.attacks.orthogonal_pgd import OrthogonalPGD
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.experiment.overrides import override
from spearshield.judging.evaluation import evaluate
from spearshield.method import Defended, Task
from spearshield.methods.magnet import Autoencoder, MagNet, Reformer, jensen_shannon, threshold
from spearshield.rng import Rng, ambient
from spearshield.storage.serialization import dump, load
from spearshield.storage.weights import load_weights, save_weights
from spearshield.threat import Linf
from spearshield.training.loop import Training, train
from spearshield.views import DetectorAware, Oblivious


class Add(nn.Module):
    """Adds a number to every pixel."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x):
        return x + self.by


def reformer(*limits: float, temperatures: tuple[float, ...] = ()) -> Reformer:
    """A adds 0.2 and B 0.3, so their errors are 0.04 and 0.3 on every image."""
    made = Reformer([Add(0.2), Add(0.3)], HalfSpace().eval(), temperatures)
    made.thresholds = torch.tensor(limits)
    return made.eval()


def learner(shape=(1, 4, 4), **settings):
    model = HalfSpace(shape).eval()
    with ambient(0):
        return MagNet(**settings).learner(Task(model, model, shape, 2))


def flat(n: int) -> Examples:
    """Images of one grey each; the dark ones are of class 0."""
    grey = torch.linspace(20, 235, n).to(torch.uint8)
    pixels = grey[:, None, None, None].expand(n, 1, 4, 4).contiguous()
    return Examples.of(pixels, (grey > 127).long(), ("dark", "light"))


X = torch.full((2, 1, 4, 4), 0.4)


def test_pixel_errors_by_hand():
    x = torch.zeros(1, 1, 1, 4)
    made = reformer()
    made.autoencoders = nn.ModuleList([Fixed(0.0, 0.5, -0.5, 1.0), Fixed(0.0, 0.5, -0.5, 1.0)])
    torch.testing.assert_close(made.errors(x), torch.tensor([[1.5 / 4, 2.0 / 4]]))
    torch.testing.assert_close(reformer().errors(X), torch.tensor([[0.04, 0.3]] * 2))


class Fixed(nn.Module):
    """A constant image of four pixels."""

    def __init__(self, *pixels: float) -> None:
        super().__init__()
        self.pixels = torch.tensor(pixels).reshape(1, 1, 1, 4)

    def forward(self, x):
        return self.pixels.expand_as(x)


def test_the_divergence_of_image_and_reconstruction():
    made = reformer(temperatures=(1.0, 10.0))
    model = HalfSpace()
    for column, temperature in [(2, 1.0), (3, 10.0)]:
        p, q = ((model(x) / temperature).softmax(1)[0].detach().double() for x in (X, X + 0.2))
        expected = float(jensenshannon(p.numpy(), q.numpy()) ** 2)
        assert made.errors(X)[0, column].item() == pytest.approx(expected, rel=1e-4)


def test_the_divergence_by_hand():
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]])
    m = 3 / 8, 5 / 8
    by_hand = 0.5 * (
        0.5 * math.log(0.5 / m[0])
        + 0.5 * math.log(0.5 / m[1])
        + 0.25 * math.log(0.25 / m[0])
        + 0.75 * math.log(0.75 / m[1])
    )
    torch.testing.assert_close(jensen_shannon(p.log() + 3, q.log()), torch.tensor([by_hand]))
    certain = torch.tensor([[900.0, 0.0]])
    torch.testing.assert_close(jensen_shannon(certain, -certain), torch.tensor([math.log(2)]))
    assert float(jensen_shannon(p, p)) == 0


def test_the_divergence_of_nearly_equal_outputs():
    a = torch.zeros(1, 10)
    b = torch.zeros(1, 10).index_fill(1, torch.tensor(3), 1e-3)
    # To second order an eighth of the variance of the difference.
    expected = 1e-6 * 0.1 * 0.9 / 8
    assert float(jensen_shannon(a, b)) == pytest.approx(expected, rel=1e-2)


def test_the_threshold_is_exceeded_by_the_given_share():
    errors = (torch.randperm(1000, generator=torch.Generator().manual_seed(0)) + 1.0) / 1000
    assert float(threshold(errors, 0.01)) == pytest.approx(0.99)
    assert int((errors > threshold(errors, 0.01)).sum()) == 10
    assert float(threshold(errors, 0.0)) == 1.0
    assert float(threshold(errors[:5], 0.1)) == float(errors[:5].max())
    assert threshold(torch.zeros(3), 0.5) > 0


def test_thresholds_come_from_the_latest_clean_images():
    made = learner(calibration_images=6, rate=0.2, temperatures=(2.0,), divergence_rate=0.6)
    images = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    made.calibrate(images[:4])
    expected = made.reformer.errors(images[:4]).detach().sort(0, descending=True).values
    torch.testing.assert_close(made.reformer.thresholds, expected[[0, 0, 2], [0, 1, 2]])
    for part in (images[4:9], images[9:16]):
        made.calibrate(part)
        assert len(made.errors) == 6
    expected = made.reformer.errors(images[10:]).detach().sort(0, descending=True).values
    torch.testing.assert_close(made.reformer.thresholds, expected[[1, 1, 3], [0, 1, 2]])


def test_thresholds_before_the_buffer_is_full():
    made = learner(calibration_images=6, rate=0.4)
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for part in (images[:2], images[2:]):
        made.calibrate(part)
    expected = made.reformer.errors(images).detach().sort(0, descending=True).values[2]
    torch.testing.assert_close(made.reformer.thresholds, expected)


@pytest.mark.parametrize(
    "limits, detection_score",
    [((0.04, 0.3), 0.0), ((0.02, 0.3), 1.0), ((0.04, 0.2), 0.5), ((0.08, 0.6), -0.5)],
)
def test_an_image_is_rejected_if_one_error_is_above_its_threshold(limits, detection_score):
    found = reformer(*limits).detection_score(X)
    torch.testing.assert_close(found, torch.full((2,), detection_score), atol=1e-5, rtol=0)


def test_the_purifier_is_the_first_network():
    torch.testing.assert_close(reformer()(X), X + 0.2)


def test_the_networks_of_the_release():
    def count(network):
        return sum(p.numel() for p in network.parameters())

    pooled, plain = learner().reformer.autoencoders
    assert count(pooled) == 30 + 3 * 84 + 28 and count(plain) == 30 + 84 + 28
    (only,) = learner(pair=False).reformer.autoencoders
    assert count(only) == count(plain)
    # The receptive field of pixel 16, from the last layer to the first. Without pooling: three
    # convolutions, 13 to 19. With pooling: two convolutions, 14 to 18; half the size, 7 to 9; two
    # convolutions, 5 to 11; twice the size, 10 to 23; one convolution, 9 to 24.
    x = torch.zeros(1, 1, 32, 32).requires_grad_()
    for network, side in [(pooled, 16), (plain, 7)]:
        (gradient,) = torch.autograd.grad(network(x)[0, 0, 16, 16], x)
        rows = (gradient[0, 0] != 0).any(1).nonzero()
        assert int(rows.max() - rows.min()) + 1 == side


@pytest.mark.parametrize("size", [(4, 4), (7, 5), (28, 28)])
@pytest.mark.parametrize("pooled", [True, False])
def test_the_autoencoders_keep_the_size(size, pooled):
    assert Autoencoder(3, 2, pooled)(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_the_loss_by_hand():
    made = learner(activity=0.01, width=2)
    network = made.reformer.autoencoders[1]
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
    # All activations are 0.5: two maps, two maps and the image, of 16 pixels each.
    mse, penalty = made.loss(network, X, X)
    assert mse.item() == pytest.approx(0.1**2)
    assert penalty.item() == pytest.approx(0.01 * 5 * 16 * 0.25)


def test_networks_are_trained_on_noisy_images_and_thresholds_come_from_clean_images():
    """The losses of the first step, by hand."""
    made = learner(noise=0.3, rate=0.0)
    x, rng = torch.full((64, 1, 4, 4), 0.4), Rng.of_batch(0, 64)
    noisy = (x + 0.3 * rng.normal((1, 4, 4))).clamp(0, 1)
    expected = [(n(noisy) - x).square().mean().item() for n in made.reformer.autoencoders]
    clean = made.reformer.errors(x).detach().amax(0)
    before = [p.clone() for p in made.parameters()]
    losses = made.step(x, torch.zeros(64, dtype=torch.long), rng=rng)
    assert [losses["mse_a"], losses["mse_b"]] == pytest.approx(expected, rel=1e-5)
    assert not any(map(torch.equal, before, made.parameters()))
    torch.testing.assert_close(made.reformer.thresholds, clean)


def test_errors_are_differentiable_in_the_images():
    made = learner(temperatures=(1.0,)).reformer.eval()
    x = X.clone().requires_grad_()
    for column in range(3):
        (gradient,) = torch.autograd.grad(made.errors(x)[:, column].sum(), x)
        assert (gradient != 0).any()
    assert all(p.grad is None for p in made.parameters())


def test_the_classifier_is_saved_once(tmp_path):
    def victim(seed):
        made = learner(temperatures=(1.0,), pair=False)
        made.calibrate(torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(seed)))
        return made.outcome().defended

    first, second = victim(0), victim(1)
    assert sum(name.endswith("w") for name in first.state_dict()) == 1
    save_weights(first, tmp_path / "weights.safetensors")
    load_weights(second, tmp_path / "weights.safetensors")
    torch.testing.assert_close(second.detection_score(X), first.detection_score(X), rtol=0, atol=0)


def test_thresholds_are_the_same_after_resuming(tmp_path):
    """With all kinds of detector, and with images from before the checkpoint among the latest."""
    examples, model = flat(40), HalfSpace().eval()
    method = MagNet(calibration_images=20, rate=0.2, temperatures=(2.0,))
    task = Task(model, model, (1, 4, 4), 2)

    def run(steps, folder=None):
        training = Training(method, steps, batch_size=8)
        return train(training, task, lambda: examples, seed=0, folder=folder)

    straight = run(5)
    run(3, tmp_path)
    resumed = run(5, tmp_path)
    assert torch.equal(resumed.reformer.thresholds, straight.reformer.thresholds)
    assert torch.equal(resumed.errors, straight.errors)


def test_a_detector_aware_attack_evades_a_trained_detector():
    """On constant images PGD's perturbation is not constant, and is rejected."""
    examples = flat(200)
    model = HalfSpace().eval()
    task = Task(model, model, (1, 4, 4), 2)
    method = MagNet(noise=0.05, lr=0.03, rate=0.01, calibration_images=100)
    made = train(Training(method, 150, batch_size=20), task, lambda: examples, seed=0)
    victim = made.outcome().defended
    threat = Linf(0.4)
    near = examples[torch.tensor([*range(60, 90, 3), *range(110, 140, 3)])]
    naive = evaluate(victim, PGD(threat, steps=20), near, Oblivious())
    assert naive.acc > 0.9 and naive.bare_adv.ne(naive.y).all()
    assert naive.rejected[1] > 0.9 and naive.robust_acc > 0.9
    aware = evaluate(victim, OrthogonalPGD(threat, steps=40, restarts=2), near, DetectorAware())
    assert aware.robust_acc < 0.1


def test_the_settings_for_cifar10_can_be_set_by_text():
    value = MagNet()
    for name, text in [
        ("pair", "false"),
        ("noise", "0.025"),
        ("rate", "0.005"),
        ("temperatures", "10,40"),
    ]:
        value = override(value, name, text)
    assert value == MagNet.cifar10() == load(dump(value))
    assert value.rates == (0.005, 0.005, 0.01, 0.01)
    made = learner((3, 4, 4), pair=False, temperatures=(10.0, 40.0))
    x = torch.rand(4, 3, 4, 4)
    made.step(x, torch.zeros(4, dtype=torch.long), rng=Rng.of_batch(0, 4))
    victim = made.outcome().defended
    assert isinstance(victim, Defended) and victim.detection_score(x).shape == (4,)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"calibration_images": 0}, "calibration_images must be at least 1, got 0"),
        ({"noise": -0.1}, "noise must be at least 0, got -0.1"),
        ({"activity": math.nan}, "activity must be at least 0, got nan"),
        ({"rate": 1.0}, "rate must be below 1, got 1.0"),
        ({"divergence_rate": -0.1}, "divergence_rate must be at least 0, got -0.1"),
        ({"temperatures": (10.0, 0.0)}, "temperatures must be positive, got"),
    ],
)
def test_settings_out_of_range_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        MagNet(**settings)
