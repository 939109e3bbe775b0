"""Attacks in whatever form a user names them, as trials of a subject."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from spearshield import discover
from spearshield.adversary import Attack
from spearshield.experiment.folders import CARD, RECIPE
from spearshield.experiment.opened import open_run
from spearshield.experiment.shield import Spear, load_saved
from spearshield.experiment.subject import Subject
from spearshield.judging.battery import BATTERIES
from spearshield.judging.trial import Trial
from spearshield.method import Outcome
from spearshield.storage.digest import weights_digest
from spearshield.threat import ThreatModel
from spearshield.views import BPDA, Adaptive, Oblivious, Transferred, View

VIEWS = (Oblivious(), Adaptive(), BPDA())
"""The views that an attack is run through where none is named."""


def trials_of(
    attack: Attack | Trial | str,
    threat: ThreatModel | None,
    subject: Subject,
    views: Sequence[View] = (),
) -> list[Trial]:
    """The trials of an attack.

    Args:
        attack: A trial or an attack; the name of an attack; or the folder of a trained one, which
            is a saved spear or RUN/TRAINING.
        threat: The budget for an attack that is given by name; by default the subject's own. A
            trained attack has its own, which must be this one if it is given.
        views: The views to run it through; by default oblivious, adaptive and BPDA. A trained
            attack has a view of its own, which follows from the model that it was trained on.

    Raises:
        ValueError: There is no such attack, or it does not fit the subject, the budget or the
            views.
        FileNotFoundError: It looks like a folder, and there is none.
    """
    if threat is not None and not isinstance(threat, ThreatModel):
        raise ValueError(f"give the threat model as Linf(8 / 255) or L2(0.5), got {threat!r}")
    if isinstance(attack, Trial):
        return [attack]
    if isinstance(attack, Spear):
        return [Trial(attack, _view_of(attack, threat, subject, views))]
    if isinstance(attack, Attack):
        return [Trial(attack, view) for view in views or VIEWS]
    if not is_trained(attack):
        budget = threat or subject.threat
        if budget is None:
            raise ValueError("give the budget: --eps 8/255, or threat=Linf(8 / 255)")
        kind = discover.find("attacks", Attack, attack)  # type: ignore[type-abstract]
        return [Trial(kind(budget), view) for view in views or VIEWS]
    folder = Path(attack)
    if (folder / CARD).exists():
        spear = load_saved(folder)
        if not isinstance(spear, Spear):
            raise ValueError(f"{folder} is a shield, not an attack")
        return [Trial(spear, _view_of(spear, threat, subject, views))]
    return [_of_run(folder, threat, subject, views)]


def battery(
    effort: str, threat: ThreatModel | None, subject: Subject, transfer_from: Sequence[nn.Module]
) -> list[Trial]:
    """The trials of a battery, under the budget ``threat`` or else the subject's own.

    Raises:
        ValueError: There is no budget, or no such battery.
    """
    budget = threat or subject.threat
    if budget is None:
        raise ValueError("give the budget: threat=Linf(8 / 255), or --eps 8/255")
    if effort not in BATTERIES:
        raise ValueError(f"effort is one of {', '.join(BATTERIES)}; got {effort!r}")
    sources = [Outcome(copy.deepcopy(source).eval()) for source in transfer_from]
    return [*BATTERIES[effort](budget, subject.images.classes, sources)]


def is_trained(name: str) -> bool:
    """True if an attack is named by the folder of its training, False if by its name.

    Raises:
        FileNotFoundError: It looks like a folder, but nothing trained is there.
    """
    if name in discover.names("attacks"):
        return False
    folder = Path(name)
    found = (folder / CARD).exists() or (folder.parent / RECIPE).exists()
    if not found and folder.name != name:
        raise FileNotFoundError(
            f"{name} is neither a saved attack nor in a run folder: there is no {folder / CARD} "
            f"and no {folder.parent / RECIPE}"
        )
    return found


def _of_run(
    folder: Path, threat: ThreatModel | None, subject: Subject, views: Sequence[View]
) -> Trial:
    source = open_run(folder)
    attack = source.attack(source.selected)
    _check_budget(attack, threat)
    (shape, classes), mine = source.data_shape, (subject.images.shape, subject.images.classes)
    if (shape, classes) != mine:
        raise ValueError(
            f"{folder} was trained on images of shape {shape} in {classes} classes; the model "
            f"takes {mine[0]} in {mine[1]}"
        )
    view = source.learned_attack_view(subject.run) if subject.run else Transferred()
    _check_view(str(folder), view, views)
    return Trial(attack, view)


def _view_of(
    spear: Spear, threat: ThreatModel | None, subject: Subject, views: Sequence[View]
) -> View:
    """The view of a spear on a subject: it knows the model that it was trained on."""
    card, victim = spear.card, subject.outcome.defended
    assert card is not None
    _check_budget(spear, threat)
    if card.shape != subject.images.shape:
        raise ValueError(
            f"{card.name} was trained on images of shape {card.shape}; the model takes "
            f"{subject.images.shape}"
        )
    view: View = Transferred()
    if card.trained_on == weights_digest(victim.classifier):
        view = Adaptive() if isinstance(victim.purifier, nn.Identity) else Oblivious()
    elif card.trained_on == weights_digest(victim):
        view = Adaptive()
    _check_view(card.name, view, views)
    return view


def _check_budget(attack: Attack, threat: ThreatModel | None) -> None:
    if threat and attack.threat != threat:
        raise ValueError(f"the attack was trained for {attack.threat}, not for {threat}")


def _check_view(name: str, view: View, views: Sequence[View]) -> None:
    if views and view not in views:
        raise ValueError(
            f"{name} was trained before this audit, and its view is {view}; name no other"
        )
