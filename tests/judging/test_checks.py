"""Each check on a victim with a known fault, and on a sound victim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fixtures.models import Affine, Apply, HalfSpace, Noise
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.judging.checks import INSPECTIONS, STRENGTH, Finding, run_checks, strength, verdict
from spearshield.judging.checks.probe import Probe
from spearshield.method import Defended, RandomPurifier
from spearshield.rng import ambient
from spearshield.selftest.layers import ScaledGradient, straight_through
from spearshield.threat import L2, Linf

CHECK = {check.__name__: check for check in (*INSPECTIONS, *STRENGTH)}


def images(n: int = 24) -> Examples:
    """Grey images on both sides of the half-space, with the labels it gives them."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(88, 168, (n, 1, 4, 4), generator=generator).to(torch.uint8)
    y = HalfSpace()(pixels.float() / 255).argmax(1)
    return Examples.of(pixels, y, ("below", "above"))


def victim(purifier: nn.Module | None = None, classifier: nn.Module | None = None) -> Defended:
    return Defended(purifier or nn.Identity(), classifier or HalfSpace()).eval()


def probe(victim: Defended, eps: float = 0.1, n: int = 24) -> Probe:
    return Probe.of(victim, images(n), Linf(eps))


def examine(victim: Defended, threat, n: int = 24) -> tuple[Finding, ...]:
    """The findings of all checks on the first images, as if no battery had attacked them."""
    return run_checks(Probe.of(victim, images()[:n], threat), (*INSPECTIONS, *STRENGTH))


def outputs(function) -> nn.Module:
    """The classifier of the half-space, with outputs ``function(x, logits)``."""
    bare = HalfSpace()
    return Apply(lambda x: function(x, bare(x)))


class Descends(nn.Module):
    """A purifier that takes a gradient step on its input."""

    def forward(self, x):
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad((z**2).sum(), z)
        return x - 0.01 * gradient


class Half(nn.Module):
    """A classifier that computes in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(HalfSpace().w.detach().bfloat16())

    def forward(self, x):
        margin = ((x - 0.5).to(self.w.dtype) * self.w).flatten(1).sum(1).float()
        return torch.stack([-margin, margin], 1)


def off_level(x: torch.Tensor) -> torch.Tensor:
    """True for images with pixels between 8-bit levels."""
    return ((x * 255 - (x * 255).round()).abs() > 1e-3).flatten(1).any(1)[:, None, None, None]


def is_test_image(x: torch.Tensor) -> torch.Tensor:
    """True for the test images."""
    return (x[:, None] == images().images()).flatten(2).all(2).any(1)[:, None]


FAULTY = {
    "training_mode": Defended(nn.Dropout(0.1), HalfSpace()),
    "random_answers": victim(Apply(lambda x: x + 0.05 * torch.rand(len(x), 1, 1, 1))),
    "batch_dependence": victim(Apply(lambda x: (x - x.mean(0) + 0.5).clamp(0, 1))),
    "probabilities": victim(None, outputs(lambda x, logits: logits.softmax(1))),
    "purifier_range": victim(Apply(lambda x: 2 * x)),
    "abrupt_answers": victim(
        Apply(lambda x: torch.where(off_level(x), 1 - x, x)), outputs(lambda x, logits: 9 * logits)
    ),
    "memorised_images": victim(
        None, outputs(lambda x, logits: torch.where(is_test_image(x), 2 * logits, logits))
    ),
    "inner_optimisation": victim(Descends()),
    "broken_graph": victim(Apply(lambda x: x.detach())),
    "zero_gradient": victim(Apply(lambda x: x.round())),
    "saturated_gradient": victim(None, outputs(lambda x, logits: 1e5 * logits)),
    "false_gradient": victim(ScaledGradient(0.5)),
    "noise_gradient": victim(ScaledGradient(0.0)),
    "flat_accuracy": victim(ScaledGradient(0.0)),
    "unbounded_budget": victim(ScaledGradient(0.0)),
    "planted_example": victim(ScaledGradient(0.0)),
    "low_precision": victim(None, Half()),
    "black_box_wins": victim(ScaledGradient(0.0)),
    "transfer_wins": victim(ScaledGradient(0.0)),
    "noise_wins": victim(ScaledGradient(-1.0)),
    "not_finite": victim(None, outputs(lambda x, logits: logits + 0 * (logits.abs() - 0.05).log())),
}
LOW = ("inner_optimisation", "saturated_gradient")
BUDGET = {"flat_accuracy": 0.004, "noise_wins": 0.05}
"""Budgets of checks that need another one, so that noise breaks few images, or enough."""
OTHER_TESTS = {"more_steps", "not_converged", "more_restarts", "single_step_wins", "blind_detector"}
"""Checks of attacks and of detectors, which have tests of their own."""


@pytest.mark.parametrize("name", sorted(set(CHECK) - OTHER_TESTS))
def test_a_check_finds_the_fault_it_is_for(name):
    subject = probe(FAULTY[name], BUDGET.get(name, 0.1))
    if name == "not_finite":
        assert subject.robust.any()  # runs an attack, whose values are counted
    finding = CHECK[name](subject)
    assert finding is not None and finding.check == name
    assert finding.saw and finding.means and finding.next
    assert finding.severity == ("low" if name in LOW else "high")


@pytest.mark.parametrize("threat", [Linf(0.002), Linf(0.1), L2(0.3)], ids=str)
def test_a_sound_victim_has_no_findings(threat):
    assert examine(victim(), threat, 12) == ()


def test_a_smooth_purifier_has_no_findings():
    assert examine(victim(Apply(lambda x: 0.8 * x + 0.1)), Linf(0.1)) == ()


@pytest.mark.parametrize(
    ("name", "mask"),
    [("more_steps", "robust_to_more_steps"), ("more_restarts", "robust_to_more_restarts")],
)
@pytest.mark.parametrize(("broken", "severity"), [(0, None), (2, None), (4, "low"), (14, "high")])
def test_more_effort_may_break_one_standard_error(name, mask, broken, severity):
    subject = probe(victim(), n=100)
    white = torch.arange(100) < 90  # a standard error of 3 points
    vars(subject).update({"robust": white, mask: white & (torch.arange(100) >= broken)})
    finding = CHECK[name](subject)
    assert (finding and finding.severity) == severity


class Prototypes(nn.Module):
    """Classifies by the largest pixel difference to two grey images; each step moves one pixel."""

    def forward(self, x):
        return torch.stack([-(x - grey).abs().flatten(1).amax(1) for grey in (0.3, 0.7)], 1)


def between_the_prototypes(eps: float, model: nn.Module) -> Probe:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(98, 108, (24, 1, 8, 8), generator=generator)
    pixels[1::2] += 50
    pixels = pixels.to(torch.uint8)
    y = Prototypes()(pixels.float() / 255).argmax(1)
    return Probe.of(victim(None, model), Examples.of(pixels, y, ("dark", "light")), Linf(eps))


def test_a_rising_loss_is_found():
    subject = between_the_prototypes(0.2, Prototypes())
    assert subject.robust.all() and CHECK["more_steps"](subject).severity == "high"
    finding = CHECK["not_converged"](subject)
    assert finding.severity == "high"
    # Each step moves one pixel, so the last 50 of 200 steps rise as much as the others.
    assert 0.1 < finding.saw["share of the rise in the last 50 of 200 steps"] <= 0.3
    assert not subject.robust_to((PGD(subject.threat, 1000),), subject.clean).any()


def test_no_finding_at_a_maximum_or_without_survivors():
    assert CHECK["not_converged"](between_the_prototypes(0.002, HalfSpace((1, 8, 8)))) is None
    subject = probe(victim(), 0.5)
    assert not subject.robust.any() and CHECK["not_converged"](subject) is None


@pytest.mark.parametrize(("late", "severity"), [(0.049, None), (0.051, "low"), (0.101, "high")])
def test_thresholds_of_the_late_rise(late, severity, monkeypatch):
    subject = probe(victim(), 0.002)
    monkeypatch.setattr(strength, "_late_rise", lambda probe: torch.full((24,), late))
    finding = CHECK["not_converged"](subject)
    assert (finding and finding.severity) == severity


def test_the_late_rise_is_between_0_and_1_for_a_noisy_loss():
    noisy = strength._late_rise(probe(FAULTY["random_answers"], 0.02))
    assert ((noisy >= 0) & (noisy <= 1)).all() and noisy.any()
    assert (strength._late_rise(probe(victim(ScaledGradient(0.0)))) == 0).all()


def test_one_step_that_breaks_more_than_many_is_a_finding():
    subject = probe(victim(), eps=0.02)
    fgsm = subject.robust_to((FGSM(subject.threat),), subject.clean)
    assert CHECK["single_step_wins"](subject) is None
    vars(subject)["robust"] = subject.clean
    assert 0 < fgsm.sum() < 24 and CHECK["single_step_wins"](subject).severity == "high"


def test_declared_randomness_is_a_note():
    (finding,) = examine(victim(Noise(0.02)), Linf(0.05), 8)
    assert (finding.check, finding.severity) == ("random_answers", "note")


def test_a_false_gradient_is_found_in_a_random_victim():
    class Backwards(RandomPurifier):
        def purify(self, x, rng):
            return ScaledGradient(-1.0)((x + 0.02 * rng.normal(x.shape[1:])).clamp(0, 1))

    assert CHECK["false_gradient"](probe(victim(Noise(0.02)))) is None
    assert CHECK["false_gradient"](probe(victim(Backwards()))).severity == "high"


def test_planted_examples_are_near_the_boundary():
    from spearshield.judging.checks.strength import NEAR, _near_the_boundary

    subject = probe(victim(), eps=0.02)
    planted = _near_the_boundary(subject)
    assert len(planted.x) == 24 and planted.clean.all()
    reach = HalfSpace().distance(planted.x, subject.threat)
    assert (reach <= NEAR * subject.threat.eps).all()
    assert torch.equal(planted.rng.ids, subject.rng.ids)


def test_several_classes():
    model = Affine(4)
    x = images(60)
    y = model(x.images()).argmax(1)
    examples = Examples.of(x.pixels, y, ("a", "b", "c", "d"))
    probe = Probe.of(victim(None, model), examples, Linf(0.05))
    assert run_checks(probe, (*INSPECTIONS, *STRENGTH)) == ()


def test_the_victim_and_the_global_generator_do_not_change():
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return (self.norm(x) * 0.1 + 0.5).clamp(0, 1)

    subject = Defended(Counts(), HalfSpace())
    weights = {k: v.clone() for k, v in subject.state_dict().items()}
    before = torch.random.get_rng_state()
    found = examine(subject, Linf(0.1), 8)
    assert {"training_mode", "batch_dependence"} <= {finding.check for finding in found}
    assert torch.equal(torch.random.get_rng_state(), before)
    assert subject.training and subject.purifier.calls == 0
    assert all(torch.equal(v, weights[k]) for k, v in subject.state_dict().items())
    assert all(p.grad is None for p in subject.parameters())


def test_the_same_seed_gives_the_same_findings_for_a_random_victim():
    def inspected():
        with ambient(0):
            return run_checks(probe(FAULTY["random_answers"], 0.05, 6), INSPECTIONS)

    first, second = inspected(), inspected()
    assert first == second and first


def test_a_victim_that_fails_on_single_images_depends_on_the_batch():
    def several(x):
        if len(x) == 1:
            raise ValueError("expected more than one image")
        return x

    finding = CHECK["batch_dependence"](probe(victim(Apply(several))))
    assert finding.saw["share of images"] == 20 / 24


def test_a_purifier_that_uses_numpy_breaks_the_graph():
    subject = probe(victim(Apply(lambda x: torch.from_numpy(np.clip(x.numpy(), 0, 1)))))
    assert CHECK["broken_graph"](subject).severity == "high"
    assert subject.robust.any()  # the other checks still run


def test_a_victim_that_fails_in_float32_has_low_precision():
    class Stubborn(Half):
        def forward(self, x):
            return (x.flatten(1).bfloat16() @ self.w.flatten()[:, None]).float() * self.sign

        sign = torch.tensor([-1.0, 1.0])

    assert CHECK["low_precision"](probe(victim(None, Stubborn()))).severity == "low"


def test_a_check_that_fails_on_the_victim_is_a_finding():
    def fails(x):
        if len(x) > 3:
            raise KeyError("too many images")
        return x

    found = run_checks(probe(victim(Apply(fails))), INSPECTIONS)
    assert {(f.check, f.severity) for f in found} >= {("could_not_run", "high")}
    assert any("too many images" in f.means for f in found)


def test_the_bar_names_each_check():
    seen = []
    run_checks(probe(victim()), INSPECTIONS[:2], lambda done, values: seen.append((done, values)))
    assert seen == [(0, {"training_mode": None}), (1, {"random_answers": None}), (2, {})]


def test_survivors_count_as_their_share_of_all_images():
    whole = probe(victim(ScaledGradient(-1.0)), 0.05)
    tenth = replace(whole, weight=0.1)
    assert CHECK["noise_wins"](whole).severity == "high"
    numbers = [next(iter(CHECK["noise_wins"](p).saw.values())) for p in (whole, tenth)]
    assert numbers[1] == pytest.approx(0.1 * numbers[0])


class Counter(nn.Module):
    """A purifier whose answers depend on the number of earlier queries."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return (x + 0.05 * (self.calls % 3)).clamp(0, 1)


def test_a_victim_without_a_gradient_takes_no_further_steps_of_pgd():
    passes = 0

    def cut(x):
        nonlocal passes
        passes += 1
        return x.detach()

    subject = probe(victim(Apply(cut)))
    found = [CHECK[name](subject) for name in ("more_steps", "not_converged")]
    assert found == [None, None] and passes < 40


def test_a_memory_of_earlier_queries_is_not_called_random():
    finding = CHECK["random_answers"](probe(victim(Counter())))
    assert finding.severity == "high" and "earlier queries" in finding.means
    finding = CHECK["random_answers"](probe(FAULTY["random_answers"]))
    assert finding.severity == "high" and "random without declaring" in finding.means


def test_a_hash_of_the_pixels_is_not_a_memory_of_images():
    hashed = victim(
        None, outputs(lambda x, logits: torch.where(off_level(x)[..., 0, 0], 2 * logits, logits))
    )
    assert CHECK["memorised_images"](probe(hashed)) is None
    assert CHECK["memorised_images"](probe(FAULTY["memorised_images"])).severity == "high"


@pytest.mark.parametrize("n", [2, 24])
def test_a_rounding_to_three_bits_is_not_a_memory_of_images(n):
    """A pixel of 91 or 164 is close to a step, and a single one makes some neighbours alike."""
    rounded = victim(Apply(lambda x: (7 * x).round() / 7))
    assert CHECK["memorised_images"](probe(rounded, n=n)) is None


def test_a_model_that_changes_its_input_is_examined_like_its_twin():
    twin, in_place = (
        victim(None, Apply(f))
        for f in (lambda x: HalfSpace()(0.9 * x), lambda x: HalfSpace()(x.mul_(0.9)))
    )
    assert examine(twin, Linf(0.02)) == examine(in_place, Linf(0.02))


def test_a_rounding_of_the_input_to_bfloat16_is_not_a_false_gradient():
    rounded = victim(Apply(lambda x: x.bfloat16().float()))
    assert CHECK["false_gradient"](probe(rounded)) is None
    assert CHECK["false_gradient"](probe(victim(Apply(straight_through)))).severity == "high"


def test_the_four_verdicts():
    low, high = (Finding("c", severity, {"n": 1}, "m", "x") for severity in ("low", "high"))
    enough = {"images": 100, "examined": True}
    assert verdict((), 0.5, **enough) == verdict((low,), 0.05, **enough) == "no flaw found"
    assert verdict((low, high), 0.5, **enough) == "not trustworthy"
    assert verdict((high,), 0.049, **enough) == verdict((), 0.0, **enough) == "broken"
    assert verdict((), 0.5, images=99, examined=True) == "not examined"
    assert verdict((), 0.0, images=1000, examined=False) == "not examined"


def test_the_text_of_a_finding():
    finding = Finding("loss_gap", "high", {"by margin": 1 / 3, "images": 60}, "It hides.", "dlr.")
    assert str(finding) == "loss_gap (high): by margin 0.333, images 60. It hides. Next: dlr."
