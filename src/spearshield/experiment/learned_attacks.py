"""The victims and the views of the learned attacks of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spearshield.adversary import Attack
from spearshield.experiment.recipe import Recipe, attack_from
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.views import Adaptive, Oblivious, Transferred, View


def learned_attack_view(recipe: Recipe, name: str, victim: str) -> View:
    """The view under which the attack of the training ``name`` attacks the defence ``victim``.

    Adaptive if it was trained on this victim, oblivious if it was trained on the classifier that
    the victim protects, else transferred.
    """
    target = target_of(recipe, name)
    if victim == target:
        return Adaptive()
    return Oblivious() if purified_by(recipe, victim) == target else Transferred()


def target_of(recipe: Recipe, name: str) -> str:
    """The name of the victim that the attack of the training ``name`` was trained on.

    A training of a classifier trains its attack on that classifier.
    """
    return name if trains_classifier(recipe, name) else recipe.trained_on(name)


def purified_by(recipe: Recipe, victim: str) -> str:
    """The name of the classifier behind the purifier of ``victim``; "" if there is no purifier."""
    return "" if trains_classifier(recipe, victim) else recipe.trained_on(victim)


def trains_classifier(recipe: Recipe, name: str) -> bool:
    """True if the training ``name`` trains the classifier itself."""
    training = recipe.trainings.get(name)
    return training is not None and training.method.trains_classifier


def transfer_view(victim: Defended, sources: Sequence[Defended]) -> View:
    """The view under which an attack on other classifiers of a run attacks ``victim``.

    Adaptive if the victim is a source, oblivious if it has purifiers in front of a source, else
    transferred.
    """
    mine = _parts(victim)
    shared = [len(theirs) for theirs in map(_parts, sources) if theirs == mine[-len(theirs) :]]
    if len(mine) in shared:
        return Adaptive()
    return Oblivious() if shared else Transferred()


def _parts(victim: Defended) -> list[int]:
    """The identities of the purifiers, in order, and of the classifier behind them."""
    return [id(part) for part in (*victim.purifiers, victim.innermost)]


def learned_attack_trials(
    recipe: Recipe, attacks: Mapping[str, Attack], victim: str
) -> tuple[Trial, ...]:
    """The trials of learned attacks on the defence ``victim``, in addition to the recipe's trials.

    They use the attacks that were trained on this defence, and the attack of its own training; if
    the defence is a purifier, that was trained without it. An attack in the trials of the recipe is
    omitted.

    Args:
        attacks: The learned attack of each training that has one.
    """
    in_recipe = {attack_from(trial.attack) for trial in recipe.trials}
    views = {
        name: learned_attack_view(recipe, name, victim)
        for name in attacks
        if name not in in_recipe and victim in (name, target_of(recipe, name))
    }
    return tuple(Trial(attacks[name], view) for name, view in views.items())
