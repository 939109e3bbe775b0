"""The judge's self-test: it must flag what is wrong, and leave alone what is honest."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.attacks.pgd import PGD
from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.datasets.digits import Digits
from spearshield.judging.checks import Finding, Verdict, run_checks, verdict
from spearshield.judging.checks.probe import Probe, share
from spearshield.judging.flawed_defences import DEFENCES, Blur, Material
from spearshield.method import Defended, Method, Task
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.progress import Progress, no_progress
from spearshield.rng import ambient
from spearshield.threat import Linf
from spearshield.training.loop import Training, train

THREAT = Linf(0.15)
LEARN_FROM = PGD(THREAT, steps=3, step_size=0.075, early_stop=False)
STEPS = 200
HONEST = ("plain", "adversarially trained", "smooth denoiser")
LR = 3e-3


@dataclass(frozen=True)
class Judged:
    """What the judge made of one defence.

    Args:
        fault: What is wrong with it; empty: nothing.
        meant: Checks that must find it; none for an honest one.
        robust_acc: Share of images that withstand PGD, the number that the findings are about.
    """

    defence: str
    fault: str
    meant: tuple[str, ...]
    findings: tuple[Finding, ...]
    robust_acc: float

    @property
    def found(self) -> tuple[str, ...]:
        """The checks that make the number untrustworthy."""
        return tuple(f.check for f in self.findings if f.severity == "high")

    @property
    def caught(self) -> bool:
        """Whether every check that was meant to find something did; of an honest one, any."""
        return set(self.meant) <= set(self.found) if self.meant else bool(self.found)

    @property
    def passed(self) -> bool:
        """Whether the judge was right."""
        return self.caught == bool(self.meant)

    @property
    def verdict(self) -> Verdict:
        return verdict(self.findings, self.robust_acc)


def selftest(*, images: int = 50, progress: Progress = no_progress) -> list[Judged]:
    """What the judge makes of the defences of :mod:`spearshield.judging.flawed_defences`.

    All stand before small networks that are trained on the embedded digits on the spot.

    Args:
        images: Test images that each is judged on.
        progress: Opens the bar of the whole self-test.
    """
    bar = progress("judge the judge", len(DEFENCES) + len(HONEST))
    plain, hardened = trained(StandardTraining(LR)), trained(PGDAdversarialTraining(LR))
    examples = Digits().load("test")[:images]
    material = Material(plain, examples.images(), examples.y)
    rows: list[Judged] = []

    def judge(defence: str, victim: Defended, fault: str = "", meant: tuple[str, ...] = ()) -> None:
        with ambient(0):
            probe = Probe.of(victim, examples, THREAT)
            rows.append(Judged(defence, fault, meant, run_checks(probe), share(probe.white)))
        bar(len(rows), {})

    for planted in DEFENCES:
        judge(planted.name, planted.build(material), planted.fault, planted.meant)
    for defence, victim in honest(plain, hardened).items():
        judge(defence, victim)
    return rows


def honest(plain: nn.Module, hardened: nn.Module) -> dict[str, Defended]:
    """Victims that hide nothing, made from a plain and an adversarially trained network."""
    pairs = (nn.Identity(), plain), (nn.Identity(), hardened), (Blur(), plain)
    victims = (Defended(purifier, classifier).eval() for purifier, classifier in pairs)
    return dict(zip(HONEST, victims, strict=True))


def trained(method: Method) -> nn.Module:
    """A small network that ``method`` has trained on the embedded digits."""
    examples = Digits().load("train")
    with ambient(0):
        fresh = SmallCNN().build(examples.shape, examples.classes)
    task = Task(fresh, fresh, examples.shape, examples.classes, LEARN_FROM)
    training = Training(method, STEPS, LEARN_FROM, batch_size=64)
    return train(training, task, lambda: examples, seed=0).outcome().classifier
