"""Certificates: exact by hand, never violated, sound in float32, and refused where unknown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations

from fixtures.models import L1, Affine, Apply, HalfSpace, Noise, inner_images
from mutations import fails_under
from spearshield.adversary import misclassified
from spearshield.architecture import Normalize
from spearshield.attacks.pgd import PGD
from spearshield.classifiers import architecture
from spearshield.datasets.mnist import MNIST
from spearshield.judging import bounded_operations, bounds, certificate
from spearshield.judging.bounds import Input, lower_bound
from spearshield.judging.certificate import NotCertifiable, _work, certify
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.examination import Examination
from spearshield.judging.traced import trace
from spearshield.method import Defended
from spearshield.nets import external
from spearshield.nets.same_padding import SamePad
from spearshield.nets.wrapped_classifier import WrappedClassifier
from spearshield.rng import Rng, ambient
from spearshield.storage.weights import load_weights
from spearshield.threat import L2, TOLERANCE, Linf

THREATS = pytest.mark.parametrize("threat", [Linf(0.1), L2(0.3), L1(0.4)], ids=str)
SHAPE = (3, 9, 8)


def bounded(model, x, threat, *, tighten=True):
    """The node of the logits, after all bounds were computed."""
    logits = trace(model, Input(x, threat))
    for node in certificate._in_order(logits):
        if tighten and isinstance(node, bounds.Rectifier):
            certificate._tighten(node.parts[0])
        node.bound()
    return logits


def ignoring_eps(self):
    self.lower, self.upper = self.x, self.x
    self.widen(0.0, torch.ones_like(self.x))


def forgetting_the_bias(self, functional, pull=bounds.Affine.pull):
    constant, pulled = pull(self, functional)
    return torch.zeros_like(constant), pulled


@fails_under("images without eps", (Input, "bound", ignoring_eps), threat=Linf(0.1))
@fails_under("no bias", (bounds.Affine, "pull", forgetting_the_bias), threat=Linf(0.1))
@THREATS
@pytest.mark.parametrize("model", [HalfSpace(), Affine(10)], ids=["HalfSpace", "Affine"])
def test_the_certificate_of_a_linear_classifier_is_exact(threat, model):
    x = inner_images(40)
    y = model(x).argmax(1)
    distance = model.distance(x, threat).detach()
    threat = replace(threat, eps=float(distance.median()))
    ratio = distance / threat.eps
    proved = certify(model, x, y, threat)
    assert proved[ratio > 1.002].all() and not proved[ratio < 0.9999].any()
    assert (ratio > 1.002).any() and (ratio < 0.9999).any()
    assert not certify(model, x, (y + 1) % 2, threat).any()


def test_the_tolerance_of_the_judge_is_covered():
    model, threat = HalfSpace(), Linf(0.1)
    for excess, expected in ((0.5, False), (1.5, True)):
        x, y = model.images(8, threat, 0.1 + excess * TOLERANCE)
        assert certify(model, x, y, threat).tolist() == [expected] * 8


class Hinge(nn.Module):
    """Images of two pixels: class 0 if ``c - relu(z) + z / 2`` is positive, with z = x1 - x2."""

    def __init__(self, c):
        super().__init__()
        self.c = c

    def forward(self, x):
        z = x[:, 0, 0] - x[:, 0, 1]
        return torch.cat([self.c - z.relu() + 0.5 * z, 0 * z], 1)


def test_a_network_by_hand():
    # With pixels of 0.5 +- 0.1, z is in [-0.2, 0.2]. relu(z) is below the chord z / 2 + 0.1, so
    # the logit is above c - 0.1, which it attains. Intervals alone give c - 0.2 - 0.1.
    x, y = torch.full((2, 1, 2, 1), 0.5), torch.zeros(2, dtype=torch.long)
    assert not certify(Hinge(0.0999), x, y, Linf(0.1)).any()
    assert certify(Hinge(0.1001), x, y, Linf(0.1)).all()
    logits = bounded(Hinge(0.25), x, Linf(0.1))
    torch.testing.assert_close(
        logits.lower[0], torch.tensor([-0.05, 0.0]).double(), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        logits.upper[0], torch.tensor([0.35, 0.0]).double(), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 0.5), (-0.5, 1.0), (0.2, 1.0), (-2.0, -0.1)])
def test_the_linear_bounds_of_a_rectifier_touch_it(slope, low, high):
    z = torch.linspace(low, high, 101, dtype=torch.float64)
    node = bounds.Rectifier(Input(torch.zeros(1, 1, 1, 1), Linf(0.1)), slope, 0.0)
    node.parts[0].lower, node.parts[0].upper = (torch.full((1,), v).double() for v in (low, high))
    node.bound()
    value = torch.maximum(z, slope * z)
    for sign in (1.0, -1.0):
        constant, (line,) = node.pull(torch.full((1, 1, 1), sign, dtype=torch.float64))
        room = sign * value - (constant.item() + line.item() * z)
        assert room.min() > -1e-12 and room.min() < 1e-9


def random_network(layer):
    """A network around a layer: with weights, statistics and signs that are random."""
    h, w = SHAPE[1:]
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), layer, nn.LazyConv2d(4, 2), nn.ReLU(), nn.Flatten(),
        nn.LazyLinear(6), nn.LeakyReLU(0.1), nn.Linear(6, 3),
    )  # fmt: skip
    network(torch.rand(2, 3, h, w))
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            if part.affine:
                part.weight.data.normal_()
                part.bias.data.normal_()
    return network.eval()


class Block(nn.Module):
    """Functions, methods and operators in place of layers, with a residual sum."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        y = F.max_pool2d(F.relu(self.conv(x)), 3, 1, 1)
        y = (2 - y).mul(-0.7) / 1.3 + 1 * x
        y += F.avg_pool2d(x, 3, 1, 1)
        y = torch.cat([y, F.pad(x[:, ::2], (0, 0, 0, 0, 1, 1)).clamp(-0.2, 0.3)], 1)
        y = y - x.mean((2, 3), keepdim=True).sum(1, keepdim=True)
        return y.permute(0, 1, 3, 2).transpose(2, 3).reshape(len(y), -1).view_as(y)


LAYERS = {
    "conv": lambda: nn.Conv2d(4, 6, (3, 2), 2, (2, 1), (1, 2), groups=2),
    "conv without bias": lambda: nn.Conv2d(4, 4, 3, padding="same", bias=False),
    "transposed conv": lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2),
    "batch norm": lambda: nn.BatchNorm2d(4),
    "batch norm without weights": lambda: nn.BatchNorm2d(4, affine=False),
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "leaky relu": lambda: nn.LeakyReLU(0.3),
    "relu6": lambda: nn.Sequential(Apply(lambda x: 5 + 3 * x), nn.ReLU6()),
    "elu": lambda: nn.ELU(0.7),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "hard tanh": lambda: nn.Hardtanh(-0.2, 0.1),
    "softplus": lambda: nn.Softplus(2.0),
    "max pool": lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "average pool": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "adaptive average pool": lambda: nn.AdaptiveAvgPool2d((4, 3)),
    "adaptive max pool": lambda: nn.AdaptiveMaxPool2d(5),
    "identity and dropout": lambda: nn.Sequential(nn.Identity(), nn.Dropout(), nn.Dropout2d()),
    "same padding": lambda: SamePad(3, 2),
    "upsampling": lambda: nn.Upsample((13, 7), mode="bilinear"),
    "normalisation": lambda: Normalize((0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 2.0)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
    "block": Block,
}


def attacked(model, x, threat, steps=15):
    """Images of the threat model with a high and a low value of each logit, by ascent."""
    found = []
    for sign, k in ((sign, k) for sign in (1, -1) for k in range(3)):
        x_adv = threat.random_start(x, Rng.of_batch(k, len(x)))
        for _ in range(steps):
            leaf = x_adv.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(sign * model(leaf)[:, k].sum(), leaf)
            x_adv = threat.step(x_adv, x, gradient, threat.eps / 4)
        found.append(x_adv)
    return torch.cat(found)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.3)], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_no_image_violates_the_bounds(name, threat):
    for seed in range(2):
        with ambient(seed):
            model = random_network(LAYERS[name]())
            x = torch.rand(2, *SHAPE)
            mix = torch.randn(5, 1, 3, dtype=torch.float64).expand(5, 2, 3)
        many = x.repeat(1250, 1, 1, 1)
        seen = torch.cat(
            [threat.random_start(many, Rng.of_batch(seed, len(many))), attacked(model, x, threat)]
        )
        with torch.no_grad():
            out = model(seen).view(-1, 2, 3).double()
        for tighten in (False, True):
            with torch.no_grad():
                logits = bounded(model, x, threat, tighten=tighten)
                low = lower_bound(logits, mix)
            assert ((logits.lower <= out) & (out <= logits.upper)).all()
            values = (mix[:, None] * out).sum(3)
            assert (low[:, None] <= values).all()
        with torch.no_grad():
            point = bounded(model, x, replace(threat, eps=1e-6))
        assert (point.upper - point.lower).max() < 0.05


def test_tightening_helps_and_keeps_the_bounds():
    with ambient(0):
        model = random_network(nn.ReLU())
        x = torch.rand(4, *SHAPE)
    with torch.no_grad():
        loose, tight = (bounded(model, x, Linf(0.02), tighten=t) for t in (False, True))
    width = [(node.upper - node.lower).mean() for node in (loose, tight)]
    assert width[1] < 0.8 * width[0]


def cancelling():
    """A linear layer in float32 whose sums cancel, and an image of ones."""
    with ambient(0):
        weight = 1e4 * torch.randn(3, 256)
    weight[:, 128:] = -weight[:, :128]
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    model[1].weight.data, model[1].bias.data = weight, torch.tensor([0.1, 0.2, 0.3])
    return model, torch.full((2, 1, 16, 16), 1 / 3)


@fails_under("no rounding errors", (bounded_operations, "rounding", lambda count, dtype: 0.0))
def test_the_bounds_hold_for_the_rounding_errors_of_float32():
    model, x = cancelling()
    with torch.no_grad():
        logits = bounded(model, x, Linf(1e-30))
        rounded = []
        for seed in range(20):
            order = torch.randperm(256, generator=torch.Generator().manual_seed(seed))
            weight = model[1].weight[:, order]
            terms = torch.cat([weight * x[:1].flatten(1)[:, order], model[1].bias[:, None]], 1)
            total = torch.zeros(3)
            for term in terms.unbind(1):
                total += term
            rounded.append(total.double())
        rounded = torch.stack([*rounded, *model(x).double()])
    assert (rounded - model[1].bias.double()).abs().max() > 1e-4
    assert ((logits.lower[0] <= rounded) & (rounded <= logits.upper[0])).all()


def test_float64_has_smaller_rounding_errors_than_float32():
    model, x = cancelling()
    with torch.no_grad():
        single = bounded(model, x, Linf(1e-12))
        double = bounded(WrappedClassifier(model.double()), x, Linf(1e-12))
    widths = [(node.upper - node.lower).max() for node in (double, single)]
    assert 1e4 * widths[0] < widths[1]


def test_rounding_of_pixels_to_bfloat16_is_bounded():
    with ambient(0):
        model = Computed(lambda x: x.bfloat16().float())
    x = Rng.of_batch(0, 2).uniform(SHAPE)
    threat = Linf(1e-6)
    with torch.no_grad():
        logits = bounded(model, x, threat)
        rounded, exact = model(x).double(), model.layers(x).double()
    width = (logits.upper - logits.lower) / 2
    assert ((logits.lower <= rounded) & (rounded <= logits.upper)).all()
    assert (width > (rounded - exact).abs()).all() and width.max() < 0.1


class Computed(nn.Module):
    """A linear classifier behind a function of the image."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(216, 3))

    def forward(self, x):
        return self.layers(self.function(x))


def in_place_on_a_view(x):
    y = 1 * x
    y.flatten(1).mul_(0)
    return y


def in_place_on_a_constant(x):
    buffer = torch.zeros_like(x, memory_format=torch.preserve_format)
    buffer[:] = x
    return buffer


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x.softmax(1), "_softmax"),
        (lambda x: x * x, "both factors"),
        (lambda x: 1 / (x + 1), "reciprocal|divisor"),
        (lambda x: x.sort(1).values, "sort"),
        (lambda x: x.round(), "round"),
        (F.gelu, "gelu"),
        (lambda x: F.leaky_relu(x, -0.5), "slope"),
        (lambda x: F.leaky_relu(x, 1.5), "slope"),
        (lambda x: F.elu(x, -1.0), "decrease"),
        (lambda x: x + torch.rand(1), "random"),
        (F.dropout, "random|empty_like"),
        (lambda x: F.batch_norm(x, None, None, training=True), "batch"),
        (lambda x: x - x.mean(0, keepdim=True), "other images"),
        (lambda x: x.flip(0), "other images"),
        (lambda x: x.roll(1, 0), "roll|other images"),
        (lambda x: x + torch.arange(len(x))[:, None, None, None], "other images"),
        (lambda x: x.permute(1, 0, 2, 3).reshape(len(x), -1), "other images"),
        (lambda x: x * (x > 0.5), "gt"),
        (lambda x: x if x.sum() > 0 else 0 * x, "sum"),
        (lambda x: x * x.mean().item(), "mean"),
        (lambda x: torch.from_numpy(x.numpy()), "numpy"),
        (lambda x: F.max_pool2d(x, 2, return_indices=True)[1] * 1.0, "positions"),
        (lambda x: x.byte().float(), "_to_copy"),
        (lambda x: x.half().float(), "overflow"),
        (in_place_on_a_view, "in place"),
        (in_place_on_a_constant, "copy"),
    ],
)
def test_an_operation_that_cannot_be_bounded_is_named(function, reason):
    x = Rng.of_batch(0, 3).uniform(SHAPE)
    with pytest.raises(NotCertifiable, match=reason):
        trace(Computed(function), Input(x, Linf(0.1)))


def test_a_refusal_reaches_the_caller():
    model = Defended(Noise(0.1), HalfSpace()).eval()
    x = inner_images(1)
    with pytest.raises(NotCertifiable):
        certify(model, x, model(x).argmax(1), Linf(0.1))


def test_wrappers_and_hooks_are_part_of_the_network():
    with ambient(0):
        plain = random_network(nn.Identity())
    mean, std = (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)
    layers = nn.Sequential(Normalize(mean, std), plain)
    x = Rng.of_batch(0, 2).uniform(SHAPE)
    expected = bounded(layers, x, Linf(0.05))
    hooked = nn.Sequential(plain)
    external.normalise(hooked, Normalize(mean, std))
    for same in (
        WrappedClassifier(plain, mean, std).eval(),
        Defended(nn.Identity(), layers).eval(),
        hooked,
    ):
        logits = bounded(same, x, Linf(0.05))
        torch.testing.assert_close(logits.lower, expected.lower)
        torch.testing.assert_close(logits.upper, expected.upper)
    binary = nn.Sequential(nn.Flatten(), nn.Linear(216, 1))
    logits = bounded(WrappedClassifier(binary, output="binary_logit"), x, Linf(0.05))
    assert logits.shape == (2, 2)


@fails_under(
    "values in the memory order of the weights",
    (Tensor, "contiguous", lambda values: values),
    raises=RuntimeError,
    name="lenet",
    shape=(1, 28, 28),
)
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("small_cnn", (1, 28, 28)), ("lenet", (1, 28, 28)), ("lenet5", (1, 28, 28))),
        *(("m_cnn", (1, 28, 28)), ("resnet18", (3, 16, 16)), ("resnet20", (3, 16, 16))),
        *(("squeezenet", (3, 32, 32)), ("mobilenet_v1", (3, 32, 32)), ("alexnet", (3, 32, 32))),
        *((f"defense_gan_{letter}", (1, 28, 28)) for letter in "abcdef"),
        ("wang_yu_resnet", (3, 16, 16)),
    ],
)
def test_the_networks_of_this_package_can_be_bounded(name, shape):
    with ambient(0):
        model = architecture(name).build(shape, 10).eval()
    model.to(memory_format=torch.channels_last)  # as in an audit
    x = Rng.of_batch(0, 2).uniform(shape)
    with torch.no_grad():
        out = model(x).double()
        logits = bounded(model, x, Linf(1e-7), tighten=False)
    assert ((logits.lower <= out) & (out <= logits.upper)).all()


def test_the_bounds_of_a_large_network_do_not_go_back_to_the_image(monkeypatch):
    with ambient(0):
        model = random_network(nn.ReLU())
        x = torch.rand(6, *SHAPE)
    y = model(x).argmax(1)
    expected = certify(model, x, y, Linf(0.003))
    monkeypatch.setattr(certificate, "MAX_COST", 0)
    loose = certify(model, x, y, Linf(0.003))
    assert expected.any() and (loose <= expected).all()
    monkeypatch.setattr(Input, "pull", None)  # is not called
    assert torch.equal(certify(model, x, y, Linf(0.003)), loose)


@fails_under("work without limit", (certificate, "_work", lambda logits: 0))
def test_a_network_with_too_many_linear_bounds_is_not_tried_with_them(monkeypatch):
    with ambient(0):
        model = random_network(nn.ReLU())
        x = torch.rand(6, *SHAPE)
    y, threat = model(x).argmax(1), Linf(0.15)
    proved, cheap = certify(model, x, y, threat), certify(model, x, y, threat, closest=0)
    assert cheap.sum() < proved.sum()
    work = _work(trace(model, Input(x, threat)))
    monkeypatch.setattr(certificate, "MAX_WORK", work)
    assert torch.equal(certify(model, x, y, threat), proved)
    monkeypatch.setattr(certificate, "MAX_WORK", work - 1)
    assert torch.equal(certify(model, x, y, threat), cheap)
    assert torch.equal(certify(model, x[:1], y[:1], threat), cheap[:1])


def test_the_work_is_the_number_of_coefficients_of_an_image():
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU())
    logits = trace(model.eval(), Input(torch.rand(2, 1, 3, 3), Linf(0.1)))
    nodes = [certificate._values(node) for node in certificate._in_order(logits)]
    first, second = nodes.index(5), nodes.index(3)
    work = 5 * sum(nodes[: first + 1]) + 3 * sum(nodes[: second + 1])
    assert _work(logits) == work > 5 * (9 + 5) + 3 * (9 + 5 + 5 + 3)


def test_linear_bounds_are_never_below_interval_bounds():
    """Far from the image, linear bounds of rectified layers alone would be looser."""
    with ambient(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(9, 30), nn.ReLU(), nn.Linear(30, 3)).eval()
        x = torch.rand(8, 1, 3, 3)
    looser = 0
    for eps in (0.01, 0.1, 1.0):
        with torch.no_grad():
            logits = bounded(model, x, Linf(eps), tighten=False)
            one = torch.eye(3, dtype=torch.float64)
            differences = (one[[0, 1, 2]] - one[[1, 2, 0]])[:, None].expand(-1, 8, -1)
            apart = logits.constant_bound(differences)
            near = lower_bound(logits, differences, affine_only=True)
            far = lower_bound(logits, differences)
            constant, (pulled,) = logits.pull(differences)
            (relu,) = logits.parts
            merged = constant + relu.constant_bound(pulled)
        assert (near >= apart).all() and (far >= near).all()
        torch.testing.assert_close(near, torch.maximum(apart, merged), rtol=1e-3, atol=1e-5)
        looser += int((near > apart).sum()) + int((far > near).sum())
    assert looser > 0


def test_the_result_does_not_depend_on_chunks_and_blocks(monkeypatch):
    with ambient(0):
        model = random_network(nn.ReLU())
        x = torch.rand(7, *SHAPE)
    y = model(x).argmax(1)
    threat = Linf(0.17)
    expected = certify(model, x, y, threat)
    assert expected.any() and not expected.all()
    monkeypatch.setattr(certificate, "CHUNK", 2)
    monkeypatch.setattr(certificate, "MAX_VALUES", 5000)
    assert torch.equal(certify(model, x, y, threat), expected)
    assert certify(model, x[:0], y[:0], threat).shape == (0,)
    with pytest.raises(ValueError, match="pixels from"):
        certify(model, 2 * x, y, threat)


@pytest.mark.parametrize("images", [32, pytest.param(1000, marks=pytest.mark.slow)])
def test_provable_weights_are_proved_and_no_attack_breaks_a_proof(data_dir: Path, images):
    model = architecture("small_cnn").build((1, 28, 28), 10)
    load_weights(model, data_dir / "weights" / "mnist_small_provable_eps0.1.npz")
    model.eval()
    examples = MNIST().load("test")[:images]
    x, y = examples.images(), examples.y
    threat = Linf(0.1)
    proved = certify(model, x, y, threat)
    assert proved.float().mean() > (0.931 if images == 1000 else 0.9)
    x_adv = PGD(threat, steps=40, restarts=2)(model, x[proved], y[proved])
    assert not misclassified(model, x_adv, y[proved]).any()


def test_linear_bounds_of_layers_are_left_to_the_closest_images(data_dir: Path, monkeypatch):
    model = architecture("small_cnn").build((1, 28, 28), 10)
    load_weights(model, data_dir / "weights" / "mnist_small_provable_eps0.1.npz")
    model.eval()
    examples = MNIST().load("test")[:12]
    x, y = examples.images(), examples.y
    threat = Linf(0.1)
    whole, none, two = (certify(model, x, y, threat, closest) for closest in (None, 0, 2))
    assert not none.any() and whole.sum() > 2
    assert two.sum() == 2 and not (two & ~whole).any()

    margins, tried = certificate._margins, []

    def counted(model, x, y, threat, effort):
        tried.append((effort, len(x)))
        return margins(model, x, y, threat, effort) - 100.0  # no proof

    monkeypatch.setattr(certificate, "_margins", counted)
    proved = Examination().proved(
        Defended(nn.Identity(), model), examples, threat, EvaluationSettings()
    )
    assert proved is not None and not proved.any()
    assert sum(images for effort, images in tried if effort == "layers") == 2


class Constant(nn.Module):
    """The class 0 for every image; fails on a batch without images."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(9, 2)
        nn.init.zeros_(self.linear.weight)
        self.linear.bias.data = torch.tensor([1.0, 0.0])

    def forward(self, x):
        return self.linear(x.view(len(x), -1))


def test_no_further_bounds_are_computed_when_all_images_are_proved():
    x = torch.rand(4, 1, 3, 3)
    assert certify(Constant(), x, torch.zeros(4, dtype=torch.long), Linf(0.1)).all()
