"""A specimen: a model or an attack with a known verdict, and the result of its audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import nn

from spearshield.adversary import Attack
from spearshield.judging.finding import Finding
from spearshield.selftest.networks import Networks

Kind: TypeAlias = Literal["flawed defence", "feeble attack", "honest model"]

CLOSE = 0.05
"""Largest allowed excess over the robust accuracy under an attack that knows the fault."""


@dataclass(frozen=True)
class Specimen:
    """A model, or an attack on a model, with the verdict that its audit must end with.

    Args:
        name, about: Its name, and a description; of a fault, if it has one.
        build: Builds the model from the trained networks.
        attack: The attack that replaces the battery; ``None``: the battery attacks.
        expected: Checks that must report a finding: of high severity for a flawed defence, of any
            severity for a feeble attack.
        forbidden: Checks that must not report a finding, because it would name the wrong fault.
        refusal: Words of the error by which the audit refuses the model before it attacks.
        truth: The robust accuracy under an attack that knows the fault, on the images of the
            self-test; an upper bound of the true one.
    """

    kind: Kind
    name: str
    about: str
    build: Callable[[Networks], nn.Module]
    attack: Attack | None = None
    expected: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    refusal: str = ""
    truth: float | None = None


@dataclass(frozen=True)
class Judged:
    """The result of the audit of a specimen.

    Args:
        verdict: The verdict, or ``refused`` if the audit raised a ``ValueError``.
        robust_acc: The robust accuracy; ``None`` if the audit refused the model.
        error: The message of the ``ValueError``.
    """

    specimen: Specimen
    verdict: str
    robust_acc: float | None = None
    findings: tuple[Finding, ...] = ()
    error: str = ""

    @property
    def found(self) -> tuple[str, ...]:
        """The checks with a finding of high severity, each once."""
        return tuple(dict.fromkeys(f.check for f in self.findings if f.severity == "high"))

    @property
    def too_high(self) -> bool:
        """True if the robust accuracy is far above the known one."""
        if self.specimen.truth is None or self.robust_acc is None:
            return False
        return self.robust_acc > self.specimen.truth + CLOSE

    @property
    def passed(self) -> bool:
        """True if the audit caught the fault; for an honest model, if it found none."""
        specimen, checks = self.specimen, {finding.check for finding in self.findings}
        if checks & set(specimen.forbidden):
            return False
        if specimen.kind == "honest model":
            return not self.found and self.verdict in ("no flaw found", "broken")
        if specimen.kind == "feeble attack":
            return set(specimen.expected) <= checks and self.verdict == "not examined"
        if specimen.refusal:
            return specimen.refusal in self.error
        caught = set(specimen.expected) <= set(self.found) and not self.too_high
        return caught and self.verdict in ("not trustworthy", "broken")

    @property
    def outcome(self) -> str:
        """``caught``, ``missed`` or ``number too high``; for an honest model ``silent`` or
        ``accused``.
        """
        if self.specimen.kind == "honest model":
            return "silent" if self.passed else "accused"
        if self.passed:
            return "caught"
        return "number too high" if self.too_high and self.found else "missed"
