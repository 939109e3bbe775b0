"""Automatic BPDA: models that hide the gradient of a half space, whose robustness is known."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from fixtures.models import Apply, HalfSpace
from fixtures.opaque import HardVotes, NearestNeighbour, Negated, Suppressed
from mutations import fails_under
from spearshield.adversary import NoGradientError, misclassified
from spearshield.attacks.apgd import APGD
from spearshield.attacks.automatic_bpda import AutomaticBPDA
from spearshield.attacks.pgd import PGD
from spearshield.foreign import ForeignError
from spearshield.nets import stand_in, surrogate_gradients
from spearshield.nets.stand_in import stand_ins
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

SHAPE, N = (1, 5, 5), 6
THREAT = Linf(0.1)
RNG = Rng.of_batch(0, N)


def through_lists(x):
    return torch.tensor(x.tolist())


def through_numpy(x):
    pixels = np.rint(255 * x.detach().permute(0, 2, 3, 1).numpy()).astype(np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def one_by_one(x):
    return torch.stack([torch.from_numpy(image.detach().numpy().copy()) for image in x])


def rounded_in_place(x):
    levels = 255 * x
    levels.round_()
    return levels / 255


def assigned(x):
    result = torch.zeros_like(x)
    result[:] = (255 * x).byte()
    return result / 255


def bits(x):
    return ((255 * x).to(torch.uint8) >> 1 << 1).float() / 255


def thermometer(x):
    return (x[..., None] > (torch.arange(100) + 0.5) / 100).float().mean(-1)


def looked_up(x):
    return (torch.arange(256) / 255)[(255 * x).round().long()]


def selected(x):
    levels, result = torch.arange(41) / 40, torch.zeros_like(x)
    for low, high in itertools.pairwise(levels):
        result = torch.where((x >= low) & (x < high), (low + high) / 2, result)
    return result


def hooked(x):
    hidden = x.clone()
    if hidden.requires_grad:
        hidden.register_hook(lambda gradient: 0 * gradient)
    return hidden


class Doubled(torch.autograd.Function):
    """Twice the image, with a gradient of zero."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 0 * gradient


OBSTACLES = {
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
    "lists": through_lists,
    "NumPy": through_numpy,
    "NumPy, image by image": one_by_one,
    "round": lambda x: (255 * x).round() / 255,
    "floor": lambda x: torch.floor(255 * x) / 255,
    "round in place": rounded_in_place,
    "floor division": lambda x: torch.div(255 * x, 1, rounding_mode="floor") / 255,
    "bytes": lambda x: (255 * x).byte().float() / 255,
    "assignment": assigned,
    "bits": bits,
    "thermometer": thermometer,
    "look-up table": looked_up,
    "where": selected,
    "hook on the gradient": hooked,
    "negated": Negated.apply,
    "suppressed": Suppressed.apply,
    "suppressed scale": Doubled.apply,
}
obstacle = pytest.mark.parametrize("name", OBSTACLES)


def behind(name):
    """A half space behind an obstacle that hardly changes an image."""
    model = HalfSpace(SHAPE)
    if name == "suppressed scale":
        model.b.data *= 2
    return nn.Sequential(Apply(OBSTACLES[name]), model).eval()


def images(ratio=1.5):
    """Images at a distance of ``eps / ratio`` from the plane, and their labels."""
    return HalfSpace(SHAPE).images(N, THREAT, THREAT.eps / ratio)


def broken(model, attack=None):
    """Share of the images that the attack breaks."""
    (x, y), attack = images(), attack or AutomaticBPDA(THREAT, steps=20)
    assert not misclassified(model, x, y).any()
    x_adv = attack(model, x, y)
    assert attack.threat.contains(x_adv, x).all()
    return misclassified(model, x_adv, y).double().mean()


@obstacle
def test_breaks_a_module_that_hides_its_gradient(name):
    model = behind(name)
    assert all(found.whole is None for found in stand_ins(model, images()[0], RNG))
    assert broken(model) == 1


@fails_under("no rules for operations", (surrogate_gradients, "RULES", {}), name="round")
@fails_under("no functions skipped", (stand_in, "_skip_functions", lambda _: 0), name="negated")
@obstacle
def test_breaks_a_function_that_hides_its_gradient(name):
    function = behind(name).forward
    assert all(found.whole is None for found in stand_ins(function, images()[0], RNG))
    assert broken(function) == 1


@obstacle
def test_the_gradient_of_the_model_itself_is_of_no_use(name):
    with contextlib.suppress(RuntimeError, NoGradientError):  # no gradient at all
        assert broken(behind(name), APGD(THREAT, "margin", steps=20)) < 1


def test_breaks_a_model_in_inference_mode():
    model = HalfSpace(SHAPE)

    def deployed(x):
        with torch.inference_mode():
            return model(x)

    assert broken(deployed) == 1
    with torch.inference_mode():
        inside = torch.ones(1)
    assert inside.is_inference()  # the mode works again


class Rotated(nn.Module):
    """Features of images of another shape, in NumPy."""

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(5)
        self.rotation = torch.linalg.qr(torch.randn(25, 25, generator=g)).Q

    def forward(self, x):
        flat = x.detach().flatten(1).numpy()
        return torch.from_numpy(flat @ self.rotation.numpy())


class Rotating(nn.Module):
    """A half space of rotated features."""

    def __init__(self):
        super().__init__()
        self.rotated, self.plane = Rotated(), HalfSpace(SHAPE)

    def forward(self, x):
        margin = self.rotated(x) @ self.rotated.rotation.T @ self.plane.w.flatten() - self.plane.b
        return torch.stack([-margin, margin], 1)


def constant(u, v, rng):
    """An imitation that was not trained."""
    return lambda z: v[0] + 0 * z.flatten(1).sum(1, keepdim=True)


@fails_under("imitation that is not trained", (stand_in, "imitation", constant))
@pytest.mark.filterwarnings("ignore:The use of `x.T`")
def test_imitates_a_submodule_with_an_output_of_another_shape():
    model = Rotating().eval()
    (first, *_) = stand_ins(model, images()[0], RNG)
    assert [*first.modules] == [model.rotated] and first.whole is None
    assert broken(model) == 1


def test_imitates_a_model_that_is_one_opaque_function():
    w, b = HalfSpace(SHAPE).w.detach().numpy(), HalfSpace(SHAPE).b.item()

    def opaque(x):
        margin = (x.detach().numpy() * w).sum((1, 2, 3)) - b
        return torch.from_numpy(np.stack([-margin, margin], 1))

    (only,) = stand_ins(opaque, images()[0], RNG)
    assert only.whole is not None
    assert broken(opaque) == 1


@fails_under("no rules for operations", (surrogate_gradients, "RULES", {}))
def test_breaks_hard_votes_with_a_decoy():
    model = HardVotes([HalfSpace(SHAPE), HalfSpace(SHAPE)], decoy=True, classes=2).eval()
    assert broken(model) == 1


def test_a_nearest_neighbour_to_its_closed_form():
    """The boundary between two stored images a and b is a plane."""
    a, b = torch.full((2, 1, *SHAPE), 0.3)
    b = b + torch.linspace(0.1, 0.5, 25).view(1, *SHAPE)
    x = torch.lerp(a, b, 0.4).expand(4, -1, -1, -1)
    stored = NearestNeighbour(torch.cat([a, b]), torch.tensor([0, 1]), classes=2).eval()
    to_plane = 0.1 * (b - a).square().sum() / (b - a).abs().sum()
    y = torch.zeros(4).long()
    for ratio, share in ((1.05, 1.0), (0.95, 0.0)):
        threat = Linf(float(to_plane * ratio))
        x_adv = AutomaticBPDA(threat, steps=30)(stored, x, y)
        assert misclassified(stored, x_adv, y).double().mean() == share


@obstacle
def test_a_stand_in_has_exactly_the_values_of_the_model(name):
    model, x = behind(name), images()[0]
    for found in stand_ins(model, x, RNG):
        assert torch.equal(found(x.clone().requires_grad_()).detach(), model(x).detach())


def test_a_sound_model_is_attacked_itself():
    (only,) = stand_ins(HalfSpace(SHAPE), images()[0], RNG)
    assert not only.operators and not only.modules and only.whole is None


def test_leaves_no_hooks_behind_even_after_an_error():
    model = behind("negated")
    broken(model)
    queries = iter(range(40))

    def fails(module, arguments, output):
        if next(queries, None) is None:
            raise KeyError("the network fails")

    handle = model[1].register_forward_hook(fails)
    with pytest.raises(ForeignError, match="KeyError: 'the network fails'"):
        broken(model)
    handle.remove()
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.is_grad_enabled() and not torch.overrides._get_current_function_mode_stack()


def test_the_attack_on_the_stand_ins_can_be_chosen():
    attack = AutomaticBPDA(THREAT, APGD(THREAT, steps=20))
    assert broken(behind("round"), attack) == 1
    assert attack.display_name == "automatic_bpda(apgd_ce)"
    with pytest.raises(ValueError, match="the attack is on"):
        AutomaticBPDA(THREAT, APGD(L2(0.1)))


def test_without_early_stopping_the_model_is_only_called_with_the_whole_batch():
    model, sizes = behind("round"), set()

    def watched(x):
        sizes.add(len(x))
        return model(x)

    broken(watched, AutomaticBPDA(THREAT, steps=5, early_stop=False))
    assert sizes == {N}


def test_goes_around_a_backward_pass_that_raises_during_the_attack():
    def raises_near_the_boundary(x):
        logits = HalfSpace(SHAPE)(x)
        margin = (logits[:, 0] - logits[:, 1]).abs().detach()

        def check(gradient):
            if bool((margin < 0.5 * distance).any()):
                raise ArithmeticError("the logits are close")
            return gradient

        if logits.requires_grad:
            logits.register_hook(check)
        return logits

    x, y = images()
    clean = HalfSpace(SHAPE)(x)
    distance = (clean[:, 0] - clean[:, 1]).abs().min()
    with pytest.raises(ForeignError, match="the logits are close"):
        PGD(THREAT)(raises_near_the_boundary, x, y)
    assert broken(raises_near_the_boundary) == 1
