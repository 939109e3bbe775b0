"""The self-test of the judge: it must find the flawed defences and pass the sound ones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.attacks.pgd import PGD
from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.datasets.digits import Digits
from spearshield.judging.checks import Finding, Verdict, run_checks, verdict
from spearshield.judging.checks.probe import Probe, share
from spearshield.judging.flawed_defences import DEFENCES, Layer, Material, blur
from spearshield.method import Defended, Method, Task
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.progress import Progress, no_progress
from spearshield.rng import ambient
from spearshield.threat import Linf
from spearshield.training.loop import Training, train

THREAT = Linf(0.15)
TRAINING_ATTACK = PGD(THREAT, steps=3, step_size=0.075, early_stop=False)
STEPS = 200
SOUND = ("plain", "adversarially trained", "smooth denoiser")
LR = 3e-3


@dataclass(frozen=True)
class Judged:
    """The findings for one defence of the self-test.

    Args:
        fault: The fault of a flawed defence; empty for a sound one.
        expected: Checks that must find the fault; none for a sound defence.
        robust_acc: Robust accuracy under PGD, which the findings are about.
    """

    defence: str
    fault: str
    expected: tuple[str, ...]
    findings: tuple[Finding, ...]
    robust_acc: float

    @property
    def found(self) -> tuple[str, ...]:
        """The checks with a finding of high severity."""
        return tuple(f.check for f in self.findings if f.severity == "high")

    @property
    def passed(self) -> bool:
        """True if all expected checks found the fault; for a sound defence, if none did."""
        return set(self.expected) <= set(self.found) if self.expected else not self.found

    @property
    def verdict(self) -> Verdict:
        return verdict(self.findings, self.robust_acc)


def selftest(*, images: int = 50, progress: Progress = no_progress) -> list[Judged]:
    """Findings for the defences of :mod:`spearshield.judging.flawed_defences` and sound ones.

    The defences protect small networks, which are trained on the embedded digits first.

    Args:
        images: Test images that each defence is examined on.
        progress: Opens the bar of the whole self-test.
    """
    bar = progress("judge the judge", len(DEFENCES) + len(SOUND))
    plain, hardened = trained(StandardTraining(LR)), trained(PGDAdversarialTraining(LR))
    examples = Digits().load("test")[:images]
    material = Material(plain, examples.images(), examples.y)
    rows: list[Judged] = []

    def judge(name: str, victim: Defended, fault: str = "", expected: tuple[str, ...] = ()) -> None:
        with ambient(0):
            probe = Probe.of(victim, examples, THREAT)
            rows.append(Judged(name, fault, expected, run_checks(probe), share(probe.robust)))
        bar(len(rows), {})

    for flawed in DEFENCES:
        judge(flawed.name, flawed.build(material), flawed.fault, flawed.expected)
    for name, victim in sound_defences(plain, hardened).items():
        judge(name, victim)
    return rows


def sound_defences(plain: nn.Module, hardened: nn.Module) -> dict[str, Defended]:
    """Victims without a fault, made from a plain and an adversarially trained network."""
    pairs = (nn.Identity(), plain), (nn.Identity(), hardened), (Layer(blur), plain)
    victims = (Defended(purifier, classifier).eval() for purifier, classifier in pairs)
    return dict(zip(SOUND, victims, strict=True))


def trained(method: Method) -> nn.Module:
    """A small network, trained by ``method`` on the embedded digits."""
    examples = Digits().load("train")
    with ambient(0):
        fresh = SmallCNN().build(examples.shape, examples.classes)
    task = Task(fresh, fresh, examples.shape, examples.classes, TRAINING_ATTACK)
    training = Training(method, STEPS, TRAINING_ATTACK, batch_size=64)
    return train(training, task, lambda: examples, seed=0).outcome().classifier
