"""Attacks in whatever form a user names them, as trials of a subject."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from spearshield import discover, spelling
from spearshield.adversary import Attack
from spearshield.arguments import check_instance, path, several
from spearshield.discover import name_of
from spearshield.experiment.defaults import attack_named, check_threat
from spearshield.experiment.folders import CARD, RECIPE
from spearshield.experiment.opened import open_run
from spearshield.experiment.overrides import view
from spearshield.experiment.shield import Shield, Spear, load_saved
from spearshield.experiment.subject import (
    Subject,
    as_wrapped,
    check_network,
    differentiable,
    model_name,
)
from spearshield.judging.battery import BATTERIES
from spearshield.judging.trial import MADE_ELSEWHERE, Trial
from spearshield.method import Defended, Outcome
from spearshield.storage.digest import weights_digest
from spearshield.threat import ThreatModel
from spearshield.training.transfer_attack import SourceError, Transfer
from spearshield.views import BPDA, Adaptive, Oblivious, Transferred, View

AttackSource: TypeAlias = Attack | Trial | str | Path
"""An attack, a trial, the name of an attack, or the folder of a trained one."""

ViewSource: TypeAlias = View | str
"""A view, or its name, such as ``eot(10)``."""

VIEWS = (Oblivious(), Adaptive(), BPDA())
"""The views that an attack is run through where none is named."""


def asked(
    attacks: Any, views: Any, transfer_from: Any
) -> tuple[list[AttackSource], list[View], list[nn.Module]]:
    """The attacks, views and other classifiers of an audit; one of a kind may be given alone.

    Raises:
        ValueError: One is of another type, there is no view of a name, or they exclude each other.
    """
    some = [as_attack(one) for one in several(attacks, (Attack, Trial, str, Path))]
    seen = [as_view(one) for one in several(views, (View, str))]
    sources = several(transfer_from, (nn.Module, str))
    if (some and sources) or (seen and not some):
        raise ValueError("transfer_from goes with a battery, and views go with attacks")
    for source in sources:
        check_network(source)
    return some, seen, sources


def as_attack(given: Any) -> AttackSource:
    """``given`` as an attack.

    Raises:
        ValueError: It is of another type.
    """
    wanted = "an attack as PGD(Linf(8 / 255)), by name or by folder"
    check_instance(given, (Attack, Trial, str, Path), wanted)
    if isinstance(given, (str, Path)):
        path("attack", given)
    attack: AttackSource = given
    return attack


def as_view(given: Any) -> View:
    """``given`` as a view, which may be given by name.

    Raises:
        ValueError: It is of another type, or there is no view of this name.
    """
    found = view(given) if isinstance(given, str) else given
    check_instance(found, View, "a view as Adaptive() or by name")
    seen: View = found
    return seen


def trials_of(
    attack: AttackSource,
    threat: ThreatModel | None,
    subject: Subject,
    views: Sequence[View] = (),
) -> list[Trial]:
    """The trials of an attack.

    Args:
        attack: A trial or an attack; the name of an attack; or the folder of a trained one, which
            is a saved spear or RUN/TRAINING. A :class:`~spearshield.training.transfer_attack.\
Transfer` has the view of its sources, in a trial, too.
        threat: The budget for an attack that is given by name; by default the subject's own. A
            trained attack has its own, which must be this one if it is given.
        views: The views to run it through; by default oblivious, adaptive and BPDA. A trained
            attack has a view of its own, which follows from the model that it was trained on.

    Raises:
        ValueError: There is no such attack, or it does not fit the subject, the budget or the
            views.
        FileNotFoundError: It looks like a folder, and there is none.
    """
    if threat is not None:
        check_threat(threat, subject.images.shape)
    trials = _trials_of(attack, threat, subject, views)
    for trial in trials:
        check_threat(trial.attack.threat, subject.images.shape)
        if views or trial is attack:
            _check_applies(trial.view, subject)
    return trials


def _check_applies(view: View, subject: Subject) -> None:
    """Raise unless a view that was asked for applies to a subject."""
    victim = subject.outcome.defended
    bare = not victim.purifiers and isinstance(view, Oblivious)
    if not (view.applies_to(victim) or bare):
        raise ValueError(
            f"the view {view} needs {view.needs}, which {subject.name} does not have; choose "
            "adaptive, which every model has"
        )


def _trials_of(
    attack: AttackSource,
    threat: ThreatModel | None,
    subject: Subject,
    views: Sequence[View],
) -> list[Trial]:
    if isinstance(attack, Trial):
        transfer = isinstance(attack.attack, Transfer) and attack.attack.training is None
        view = _view_of_transfer(attack.attack, subject) if transfer else attack.view
        return [replace(attack, view=view)]
    if isinstance(attack, Spear):
        return [Trial(attack, _view_of(attack, threat, subject, views))]
    if isinstance(attack, MADE_ELSEWHERE):
        view = _view_of_transfer(attack, subject)
        _check_view(name_of(attack), view, views)
        return [Trial(attack, view)]
    if isinstance(attack, Attack):
        return [Trial(attack, view) for view in views or VIEWS]
    return _named(str(attack), threat, subject, views)


def _named(
    name: str, threat: ThreatModel | None, subject: Subject, views: Sequence[View]
) -> list[Trial]:
    """The trials of an attack that is given by its name or its folder."""
    if not is_trained(name):
        budget = subject.threat if threat is None else threat
        if budget is None:
            raise ValueError("give the budget: --eps 8/255, or threat=Linf(8 / 255)")
        attack = attack_named(name, budget)
        return [Trial(attack, view) for view in views or VIEWS]
    folder = Path(name)
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
        ForeignError: A source raises an error on the images of the subject.
        SourceError: A source passes no gradient to its images.
        ValueError: There is no budget.
    """
    budget = subject.threat if threat is None else threat
    if budget is None:
        raise ValueError("give the budget: threat=Linf(8 / 255), or --eps 8/255")
    check_threat(budget, subject.images.shape)
    sources = [Outcome(copy.deepcopy(source).eval()) for source in transfer_from]
    for source in sources:
        if not differentiable(source.classifier, subject.images):
            raise SourceError(_source_name(source.classifier))
    return [*BATTERIES[effort](budget, subject.images.classes, sources)]


def _source_name(source: nn.Module) -> str:
    """The name on the card of a shield, or of the class of a network."""
    return source.card.name if isinstance(source, Shield) else model_name(source)


def is_trained(name: str) -> bool:
    """True if an attack is named by the folder of its training, False if by its name.

    Raises:
        FileNotFoundError: It looks like a folder, but nothing trained is there.
    """
    if name in discover.registered("attacks"):
        return False
    folder = Path(name)
    found = (folder / CARD).exists() or (folder.parent / RECIPE).exists()
    spelled = spelling.plain(name) in map(spelling.plain, discover.registered("attacks"))
    if not (found or spelled) and (folder.name != name or folder.is_dir()):
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
    view = _view_towards(victim, card.trained_on)
    _check_view(card.name, view, views)
    return view


def _view_of_transfer(attack: Attack, subject: Subject) -> View:
    """The view of an attack on other classifiers, or of images that were made before."""
    sources = attack.sources if isinstance(attack, Transfer) else ()
    wrapped = [as_wrapped(source) for source in sources if source.state_dict()]
    found = [_view_towards(subject.outcome.defended, weights_digest(one)) for one in wrapped]
    return next((view for view in (Adaptive(), Oblivious()) if view in found), Transferred())


def _view_towards(victim: Defended, digest: str | None) -> View:
    """The view of an attack that was made on the classifier with these weights.

    It is adaptive on this victim, oblivious behind one of its purifiers, and else transferred.
    """
    behind, inner = _digests(victim.classifier), victim.classifier
    while isinstance(inner, Defended):
        inner = inner.classifier
        behind |= _digests(inner)
    if digest in _digests(victim) or (digest in behind and not victim.purifiers):
        return Adaptive()
    return Oblivious() if digest in behind else Transferred()


def _digests(network: nn.Module) -> set[str]:
    """The digests of the weights of a network, by their names with and without a wrapper."""
    return {weights_digest(network), weights_digest(as_wrapped(network))}


def _check_budget(attack: Attack, threat: ThreatModel | None) -> None:
    if threat and attack.threat != threat:
        raise ValueError(f"the attack was trained for {attack.threat}, not for {threat}")


def _check_view(name: str, view: View, views: Sequence[View]) -> None:
    if views and view not in views:
        raise ValueError(
            f"{name} was trained before this audit, and its view is {view}; name no other"
        )
