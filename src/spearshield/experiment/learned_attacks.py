"""Which victims the learned attacks of a recipe attack, and under which view."""

from __future__ import annotations

from collections.abc import Mapping

from spearshield.adversary import Attack
from spearshield.experiment.recipe import Recipe, attack_from
from spearshield.judging.trial import Trial
from spearshield.views import Adaptive, Oblivious, Transferred, View


def learned_attack_view(recipe: Recipe, name: str, victim: str) -> View:
    """The view under which the attack of the training ``name`` attacks the defence ``victim``.

    Adaptive if it was trained on this victim, oblivious if it was trained on the classifier that
    the victim protects, else transferred.
    """
    trained_on = recipe.trained_on(name)
    if victim == trained_on:
        return Adaptive()
    return Oblivious() if recipe.trained_on(victim) == trained_on else Transferred()


def learned_attack_trials(
    recipe: Recipe, attacks: Mapping[str, Attack], victim: str
) -> tuple[Trial, ...]:
    """The trials of learned attacks that the defence ``victim`` undergoes besides the recipe's.

    They are the attacks that were trained on it, and the attack of its own training, which was
    trained without its purifier. An attack that is in the recipe's trials is left out.

    Args:
        attacks: The learned attack of each training that has one.
    """
    in_recipe = {attack_from(trial.attack) for trial in recipe.trials}
    views = {
        name: Adaptive() if victim == recipe.trained_on(name) else Oblivious()
        for name in attacks
        if name not in in_recipe and victim in (name, recipe.trained_on(name))
    }
    return tuple(Trial(attacks[name], view) for name, view in views.items())
