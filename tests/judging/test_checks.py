"""Each check on a victim whose fault is known in closed form, and on one without it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from analytic import Affine, HalfSpace
from spearshield.attack import Attack
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.judging.checks import CHECKS, Finding, compare, examine, strength, verdict
from spearshield.judging.checks.probe import Probe
from spearshield.judging.flawed_defences import Sloped
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.method import Defended, RandomPurifier
from spearshield.threat import L2, Linf
from spearshield.training.transfer_attack import Transfer
from spearshield.views import BPDA, EOT, Adaptive, Oblivious

CHECK = {check.__name__: check for check in CHECKS}


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


class Does(nn.Module):
    """A purifier that is one function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def answers(function) -> nn.Module:
    """The half-space's classifier, whose logits go through ``function`` with the images."""
    bare = HalfSpace()
    return Does(lambda x: function(x, bare(x)))


class Noise(RandomPurifier):
    def purify(self, x, rng):
        return (x + 0.02 * rng.normal(x.shape[1:])).clamp(0, 1)


class Descends(nn.Module):
    """A purifier that takes a gradient step of its own."""

    def forward(self, x):
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad((z**2).sum(), z)
        return x - 0.01 * slope


class Half(nn.Module):
    """Computes in bfloat16, eight bits for all its digits."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(HalfSpace().w.detach().bfloat16())

    def forward(self, x):
        margin = ((x - 0.5).to(self.w.dtype) * self.w).flatten(1).sum(1).float()
        return torch.stack([-margin, margin], 1)


def last_digits(x: torch.Tensor) -> torch.Tensor:
    """Whether an image is no 8-bit picture."""
    return ((x * 255 - (x * 255).round()).abs() > 1e-3).flatten(1).any(1)[:, None, None, None]


def known(x: torch.Tensor) -> torch.Tensor:
    """Whether an image is one of the test images."""
    return (x[:, None] == images().images()).flatten(2).all(2).any(1)[:, None]


FAULTY = {
    "training_mode": Defended(nn.Dropout(0.1), HalfSpace()),
    "random_answers": victim(Does(lambda x: x + 0.05 * torch.rand(len(x), 1, 1, 1))),
    "batch_dependence": victim(Does(lambda x: (x - x.mean(0) + 0.5).clamp(0, 1))),
    "probabilities": victim(None, answers(lambda x, logits: logits.softmax(1))),
    "purifier_range": victim(Does(lambda x: 2 * x)),
    "abrupt_answers": victim(
        Does(lambda x: torch.where(last_digits(x), 1 - x, x)), answers(lambda x, logits: 9 * logits)
    ),
    "memorised_images": victim(
        None, answers(lambda x, logits: torch.where(known(x), 2 * logits, logits))
    ),
    "inner_optimisation": victim(Descends()),
    "broken_graph": victim(Does(lambda x: x.detach())),
    "zero_gradient": victim(Does(lambda x: x.round())),
    "saturated_gradient": victim(None, answers(lambda x, logits: 1e5 * logits)),
    "false_gradient": victim(Sloped(0.9)),
    "loss_gap": victim(None, answers(lambda x, logits: 1e5 * logits)),
    "flat_accuracy": victim(Sloped(0.0)),
    "unbounded_budget": victim(Sloped(0.0)),
    "planted_example": victim(Sloped(0.0)),
    "low_precision": victim(None, Half()),
    "black_box_wins": victim(Sloped(0.0)),
    "transfer_wins": victim(Sloped(0.0)),
    "noise_wins": victim(Sloped(-1.0)),
    "not_finite": victim(None, answers(lambda x, logits: logits + 0 * (logits.abs() - 0.05).log())),
}
BUDGET = {"flat_accuracy": 0.004, "noise_wins": 0.05}
"""Of the checks that need another one: too small for chance to break many images, or not."""
SILENT = {"more_steps", "not_converged", "more_restarts", "single_step_wins", "blind_detector"}
"""Checks of the attack rather than of the victim, or of a detector, with tests of their own."""


@pytest.mark.parametrize("name", sorted(set(CHECK) - SILENT))
def test_a_check_finds_the_fault_it_is_for(name):
    subject = probe(FAULTY[name], BUDGET.get(name, 0.1))
    if name == "not_finite":
        assert subject.white.any()  # it counts what others asked for
    finding = CHECK[name](subject)
    assert finding is not None and finding.check == name
    assert finding.saw and finding.means and finding.next
    assert finding.severity == ("low" if name == "inner_optimisation" else "high")


@pytest.mark.parametrize("threat", [Linf(0.002), Linf(0.1), L2(0.3)], ids=str)
def test_an_honest_victim_raises_no_finding(threat):
    assert examine(victim(), images(), threat, images=12) == ()


def test_neither_does_a_purifier_that_is_smooth():
    assert examine(victim(Does(lambda x: 0.8 * x + 0.1)), images(), Linf(0.1)) == ()


@pytest.mark.parametrize(
    ("name", "mask"), [("more_steps", "longer"), ("more_restarts", "restarted")]
)
@pytest.mark.parametrize(("broken", "severity"), [(0, None), (2, None), (4, "low"), (14, "high")])
def test_more_effort_may_cost_a_standard_error(name, mask, broken, severity):
    subject = probe(victim(), n=100)
    white = torch.arange(100) < 90  # a standard error of 3 points
    vars(subject).update({"white": white, mask: white & (torch.arange(100) >= broken)})
    finding = CHECK[name](subject)
    assert (finding and finding.severity) == severity


class Prototypes(nn.Module):
    """The nearer of two grey images, by the one pixel that is farthest off: steps move only it."""

    def forward(self, x):
        return torch.stack([-(x - grey).abs().flatten(1).amax(1) for grey in (0.3, 0.7)], 1)


def between_the_prototypes(eps: float, model: nn.Module) -> Probe:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(98, 108, (24, 1, 8, 8), generator=generator)
    pixels[1::2] += 50
    pixels = pixels.to(torch.uint8)
    y = Prototypes()(pixels.float() / 255).argmax(1)
    return Probe.of(victim(None, model), Examples.of(pixels, y, ("dark", "light")), Linf(eps))


def test_an_attack_that_still_climbs_has_not_converged_though_twice_the_steps_break_nothing():
    subject = between_the_prototypes(0.2, Prototypes())
    assert subject.white.all() and CHECK["more_steps"](subject) is None
    finding = CHECK["not_converged"](subject)
    assert finding.severity == "high"
    # One pixel a step: its last 10 of 40 steps gain no less than others after the noise is made up.
    assert 0.1 < finding.saw["share of the climb in the last 10 of 40 steps"] < 0.25
    assert not subject.standing(PGD(subject.threat, 1000), subject.clean).any()


def test_an_attack_at_the_top_has_converged_and_one_that_broke_all_is_not_asked():
    assert CHECK["not_converged"](between_the_prototypes(0.002, HalfSpace((1, 8, 8)))) is None
    subject = probe(victim(), 0.5)
    assert not subject.white.any() and CHECK["not_converged"](subject) is None


@pytest.mark.parametrize(("late", "severity"), [(0.049, None), (0.051, "low"), (0.101, "high")])
def test_how_much_of_a_climb_may_be_late(late, severity, monkeypatch):
    subject = probe(victim(), 0.002)
    monkeypatch.setattr(strength, "_late_climb", lambda probe: torch.full((24,), late))
    finding = CHECK["not_converged"](subject)
    assert (finding and finding.severity) == severity


def test_a_climb_that_goes_up_and_down_is_measured_by_its_best():
    jumping = strength._late_climb(probe(FAULTY["random_answers"], 0.02))
    assert ((jumping >= 0) & (jumping <= 1)).all() and jumping.any()
    assert (strength._late_climb(probe(victim(Sloped(0.0)))) == 0).all()


def test_one_step_that_beats_many_is_a_finding():
    subject = probe(victim(), eps=0.02)
    fgsm = subject.standing(FGSM(subject.threat), subject.clean)
    assert CHECK["single_step_wins"](subject) is None
    vars(subject)["white"] = subject.clean
    assert 0 < fgsm.sum() < 24 and CHECK["single_step_wins"](subject).severity == "high"


def test_a_victim_that_says_it_draws_is_only_noted():
    (finding,) = examine(victim(Noise()), images(), Linf(0.05), images=8)
    assert (finding.check, finding.severity) == ("random_answers", "note")


def test_noise_of_ones_own_is_no_excuse_for_a_false_gradient():
    class Backwards(RandomPurifier):
        def purify(self, x, rng):
            return Sloped(-1.0)((x + 0.02 * rng.normal(x.shape[1:])).clamp(0, 1))

    assert CHECK["false_gradient"](probe(victim(Noise()))) is None
    assert CHECK["false_gradient"](probe(victim(Backwards()))).severity == "high"


def test_a_planted_example_lies_where_it_is_said_to():
    from spearshield.judging.checks.strength import NEAR, _beside_the_boundary

    subject = probe(victim(), eps=0.02)
    planted = _beside_the_boundary(subject)
    assert len(planted.x) == 24 and planted.clean.all()
    reach = HalfSpace().distance(planted.x, subject.threat)
    assert (reach <= NEAR * subject.threat.eps).all()
    assert torch.equal(planted.rng.ids, subject.rng.ids)


def test_several_classes_and_more_images_than_there_are():
    model = Affine(4)
    x = images(60)
    y = model(x.images()).argmax(1)
    examples = Examples.of(x.pixels, y, ("a", "b", "c", "d"))
    assert examine(victim(None, model), examples, Linf(0.05), images=1000) == ()


def test_the_victim_and_the_global_generator_are_left_alone():
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return (self.norm(x) * 0.1 + 0.5).clamp(0, 1)

    subject = Defended(Remembers(), HalfSpace())
    weights = {k: v.clone() for k, v in subject.state_dict().items()}
    before = torch.random.get_rng_state()
    found = examine(subject, images(), Linf(0.1), images=8)
    assert {"training_mode", "batch_dependence"} <= {finding.check for finding in found}
    assert torch.equal(torch.random.get_rng_state(), before)
    assert subject.training and subject.purifier.calls == 0
    assert all(torch.equal(v, weights[k]) for k, v in subject.state_dict().items())
    assert all(p.grad is None for p in subject.parameters())


def test_the_same_seed_gives_the_same_findings_even_of_a_random_victim():
    first, second = (
        examine(FAULTY["random_answers"], images(), Linf(0.05), images=6) for _ in range(2)
    )
    assert first == second and first


def test_a_victim_that_only_takes_whole_batches_is_one_that_depends_on_them():
    def several(x):
        if len(x) == 1:
            raise ValueError("expected more than one image")
        return x

    finding = CHECK["batch_dependence"](probe(victim(Does(several))))
    assert finding.saw["share of images"] == 20 / 24


def test_a_purifier_that_leaves_the_graph_for_numpy_is_found_out():
    subject = probe(victim(Does(lambda x: torch.from_numpy(np.clip(x.numpy(), 0, 1)))))
    assert CHECK["broken_graph"](subject).severity == "high"
    assert subject.white.any()  # and the other checks go on


def test_low_precision_that_cannot_be_undone_is_said_as_well():
    class Stubborn(Half):
        def forward(self, x):
            return (x.flatten(1).bfloat16() @ self.w.flatten()[:, None]).float() * self.sign

        sign = torch.tensor([-1.0, 1.0])

    assert CHECK["low_precision"](probe(victim(None, Stubborn()))).severity == "low"


def test_what_cannot_be_examined_is_refused():
    with pytest.raises(ValueError, match="images must be at least 1, got 0 of 24"):
        examine(victim(), images(), Linf(0.1), images=0)
    with pytest.raises(ValueError, match=r"returned \(1, 4\) .* 2 classes"):
        examine(victim(None, Affine(4)), images(), Linf(0.1))


def test_a_verdict_keeps_untrustworthy_and_broken_apart():
    low, high = (Finding("c", severity, {"n": 1}, "m", "x") for severity in ("low", "high"))
    assert verdict((), 0.5) == verdict((low,), 0.5) == verdict((), 0.05) == "trustworthy"
    assert verdict((low, high), 0.5) == "not trustworthy"
    assert verdict((high,), 0.049) == verdict((), 0.0) == "broken"


def test_a_finding_reads_as_a_sentence():
    finding = Finding("loss_gap", "high", {"by margin": 1 / 3, "images": 60}, "It hides.", "dlr.")
    assert str(finding) == "loss_gap (high): by margin 0.333, images 60. It hides. Next: dlr."


@dataclass(frozen=True)
class Blind(Attack):
    """An attack that asks for no gradient."""

    gradient_free = True

    def perturb(self, model, x, y, rng):
        return x


def score(robust: int, n: int = 1000, first: int = 0) -> Score:
    """A score over ``n`` images, of which ``robust`` stand, from number ``first`` on."""
    y = torch.zeros(n, dtype=torch.long)
    place = torch.arange(n)
    victim_adv = (~((place >= first) & (place < first + robust))).long()
    columns = dict.fromkeys(("y", "victim_clean", "bare_clean", "bare_adv"), y)
    columns |= dict.fromkeys(("l2", "linf", "ssim"), torch.zeros(n))
    columns |= dict.fromkeys(("clean_draws", "adv_draws"), y[:, None][:, :0])
    columns |= dict.fromkeys(("clean_detection", "adv_detection"), torch.empty(n, 0))
    return Score(ids=place, victim_adv=victim_adv, **columns, seconds=1.0, forwards=n)


STRONG, BALL = PGD(Linf(0.1)), Linf(0.1)


@pytest.mark.parametrize(
    ("rival", "check"),
    [
        (Trial(Blind(BALL)), "black_box_wins"),
        (Trial(Blind(BALL), EOT(4)), "black_box_wins"),
        (Trial(STRONG, Oblivious()), "transfer_wins"),
        (Trial(Blind(BALL), Oblivious()), "transfer_wins"),
        (Trial(Blind(BALL), survivors=True), "black_box_wins"),
        (Trial(Transfer(BALL, (HalfSpace(),))), "transfer_wins"),
    ],
)
@pytest.mark.parametrize(
    ("robust", "first", "severity"),
    [(600, 0, None), (598, 0, None), (597, 0, "low"), (579, 0, "high"), (700, 100, "high")],
)
def test_weaker_attackers_are_compared_image_by_image(rival, check, robust, first, severity):
    found = compare([(Trial(STRONG), score(600)), (rival, score(robust, first=first))])
    assert [(f.check, f.severity) for f in found] == ([(check, severity)] if severity else [])


def test_all_white_box_attacks_count_together():
    white = [(Trial(STRONG), score(600)), (Trial(STRONG, BPDA()), score(500))]
    assert compare([*white, (Trial(Blind(BALL)), score(500))]) == ()


def test_an_image_that_a_trial_was_spared_is_not_one_it_broke():
    oblivious = (Trial(STRONG, Oblivious()), score(300))
    later = (Trial(PGD(BALL), BPDA(), survivors=True), score(250))
    found = compare([oblivious, (Trial(STRONG), score(600)), later])
    assert [(f.check, f.severity) for f in found] == [("transfer_wins", "high")]
    (gain,) = found[0].saw.values()
    assert gain == pytest.approx(0.3)


def test_each_threat_model_is_compared_on_its_own_and_over_shared_images():
    found = compare(
        [
            (Trial(STRONG), score(600)),
            (Trial(Blind(Linf(0.3))), score(100)),
            (Trial(PGD(Linf(0.3))), score(100)),
            (Trial(Blind(BALL), images=500), score(500, n=500)),
        ]
    )
    assert found == ()


def test_only_oblivious_attacks_are_no_white_box_evaluation():
    (finding,) = compare([(Trial(STRONG, Oblivious()), score(900)), (Trial(Blind(BALL)), score(9))])
    assert (finding.check, finding.severity) == ("no_white_box", "high")


def test_losses_and_steps_are_compared_through_the_same_view():
    margin = (Trial(PGD(BALL, loss="dlr")), score(450))
    (finding,) = compare([(Trial(PGD(BALL)), score(600)), margin])
    assert (finding.check, finding.severity) == ("loss_gap", "high")
    assert compare([(Trial(PGD(BALL), BPDA()), score(600)), margin]) == ()
    one_step = (Trial(FGSM(BALL)), score(500))
    assert compare([one_step, (Trial(STRONG), score(515))]) == ()
    (finding,) = compare([one_step, (Trial(STRONG), score(530))])
    assert finding.check == "single_step_wins"


def test_nothing_to_compare_is_no_finding():
    assert compare([]) == ()
    assert compare([(Trial(replace(STRONG, steps=1), Adaptive()), score(3))]) == ()
