"""AutoAttack: an ensemble of four attacks without hyper-parameters to tune.

Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2020. https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from spearshield.adversary import Attack, unbroken
from spearshield.attacks.apgd import APGD, BestAttempts
from spearshield.attacks.fab import FAB
from spearshield.attacks.square import Square
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class AutoAttack(Attack):
    """Several attacks in sequence, each on the images that the attacks before it did not break.

    A broken image is returned as the first attack broke it, an unbroken image as the attempt with
    the largest margin loss, and an image that is misclassified from the start unchanged.

    Args:
        version: ``standard``: APGD on the cross-entropy, APGD on the targeted DLR loss, targeted
            FAB, Square. ``rand``, for a random model attacked through a view that averages its
            outputs, such as ``EOT(20)``: APGD on the cross-entropy and on the DLR loss. With
            ``rand`` one misclassified output does not stop an image: both attacks take all steps
            on all images, and the result is the attempt with the larger margin loss.
        steps: Number of gradient steps in each run of APGD and FAB.
        targets: Number of target classes of APGD and FAB, in ``standard``.
        queries: Maximum number of queries of Square for each image, in ``standard``.

    Raises:
        ValueError: ``steps``, ``targets`` or ``queries`` is not positive, or ``version`` is
            unknown.
    """

    version: Literal["standard", "rand"] = "standard"
    steps: int = 100
    targets: int = 9
    queries: int = 5000

    def __post_init__(self) -> None:
        require(self, "version", one_of=("standard", "rand"))
        require(self, "steps", "targets", "queries", at_least=1)

    def parts(self, classes: int) -> tuple[Attack, ...]:
        """The attacks, in order, for a model with ``classes`` classes.

        The targeted DLR loss needs four classes and the DLR loss three. With fewer classes the DLR
        loss or the margin loss takes their place.
        """
        cross_entropy = APGD(self.threat, steps=self.steps)
        ratio = replace(cross_entropy, loss="dlr" if classes > 2 else "margin")
        if self.version == "rand":
            return replace(cross_entropy, early_stop=False), replace(ratio, early_stop=False)
        return (
            cross_entropy,
            replace(cross_entropy, targets=self.targets) if classes > 3 else ratio,
            FAB(self.threat, targets=self.targets, steps=self.steps),
            Square(self.threat, queries=self.queries),
        )

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = BestAttempts(model, x, y)
        parts = enumerate(self.parts(best.clean_logits.shape[1]))
        for (number, part), left in unbroken(
            parts, x, best.is_broken if self.version == "standard" else None
        ):
            best.add(left, part.perturb(model, x[left], y[left], rng[left].fold(number)))
        return best.x_adv
