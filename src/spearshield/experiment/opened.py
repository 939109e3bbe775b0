"""Trained runs, opened by the path of the run or of one training in it."""

from __future__ import annotations

from pathlib import Path

from spearshield.discover import name_of
from spearshield.experiment.card import Card, ClassifierCard
from spearshield.experiment.folders import CARD, RECIPE
from spearshield.experiment.manifest import Manifest
from spearshield.experiment.run import Run
from spearshield.experiment.shield import Shield, Spear
from spearshield.training.learned_attack import LearnedAttack


def with_name(path: Path) -> Path:
    """The path of a folder, absolute if it is one without a name, such as ``.`` or ``..``."""
    return path if path.name not in ("", "..") else path.resolve()


def open_run(path: Path, data_dir: Path | None = None, device: str = "cpu") -> Run:
    """The trained run in a folder; nothing in it is trained any further.

    Args:
        path: A run folder, or RUN/TRAINING, which selects one training.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: Its recipe cannot be read.
    """
    path = with_name(path)
    whole = (path / RECIPE).exists()
    folder = path if whole else path.parent
    if not (folder / RECIPE).exists():
        raise FileNotFoundError(
            f"{path} is neither a saved shield or attack nor one training of a run: there is no "
            f"{path / CARD} and no {folder / RECIPE}"
        )
    manifest = Manifest.read(folder)
    return Run(
        manifest.recipe,
        manifest.name,
        folder,
        data_dir,
        device,
        trained=folder,
        selected="" if whole else path.name,
    )


def shield_of(run: Run) -> Shield:
    """The defended classifier of the selected training of a run, or of its last."""
    return Shield(run.outcome, _card(run, "shield"))


def spear_of(run: Run) -> Spear:
    """The attack of the selected training of a run.

    Raises:
        ValueError: It trained no attack, or one that is not a single network.
    """
    attack = run.attack(run.selected_names[-1])
    if not isinstance(attack, LearnedAttack):
        raise ValueError(f"{attack} is not a trained network, so it cannot be loaded as a spear")
    return Spear(
        attack.threat, attack.network, attack.training, attack.queries, card=_card(run, "spear")
    )


def _card(run: Run, kind: str) -> Card:
    shape, classes = run.data_shape
    name = run.selected_names[-1]
    architecture = run.recipe.classifier
    return Card(
        kind=kind,
        name=name,
        training=run.recipe.trainings[name],
        threat=run.recipe.threat,
        seed=run.recipe.seed,
        shape=shape,
        names=tuple(map(str, range(classes))),
        classifier=ClassifierCard(name_of(architecture), architecture),
    )
