"""The subject of an audit: a classifier or shield, the images, and the fields of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spearshield import foreign
from spearshield.arguments import path
from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.experiment.as_examples import (
    ImageSource,
    LabelSource,
    as_examples,
    drawn,
    with_classes,
)
from spearshield.experiment.card import ClassifierCard
from spearshield.experiment.device import checked_device
from spearshield.experiment.folders import CARD
from spearshield.experiment.opened import open_run
from spearshield.experiment.purifier import (
    PurifierSource,
    as_purifier,
    check_purifier,
    purifier_name,
)
from spearshield.experiment.recipe import UNDEFENDED
from spearshield.experiment.run import Run
from spearshield.experiment.shield import Shield, Spear, load_saved
from spearshield.gradients import passes_gradient
from spearshield.inputs import check_classes, check_model, guarded
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.examination import Examination
from spearshield.judging.judge import Judge
from spearshield.judging.results import Row
from spearshield.judging.trial import Trial
from spearshield.method import Defended, Outcome
from spearshield.nets.wrapped_classifier import WrappedClassifier
from spearshield.progress import Progress
from spearshield.ranges import check
from spearshield.rng import ambient
from spearshield.storage.digest import weights_digest
from spearshield.threat import ThreatModel
from spearshield.training.loop import Training


@dataclass(frozen=True)
class Subject:
    """A victim and its images.

    Args:
        name: The name of the defence, or of the classifier where there is none.
        about: The fields ``recipe``, ``data``, ``split`` and ``classifier`` of its rows.
        parameters: Settings that identify the classifier.
        threat: The threat model it was trained for, where there is one.
        run: The run that it belongs to, where there is one.
    """

    name: str
    outcome: Outcome
    images: Examples
    about: Mapping[str, str]
    parameters: Mapping[str, Any]
    training: Training | None = None
    threat: ThreatModel | None = None
    run: Run | None = None

    def sample(self, limit: int | None) -> Examples:
        """At most ``limit`` of the images, drawn by seed 0, but from the first of a run; 0: all.

        Raises:
            ValueError: ``limit`` is negative.
        """
        check("limit", limit or 0, at_least=0, whole=True)
        if limit and self.run:
            return self.images[:limit]
        return drawn(self.images, 0, limit)

    def rows(
        self,
        trials: Sequence[Trial],
        limit: int,
        settings: EvaluationSettings,
        folder: Path,
        progress: Progress,
        examination: Examination | None,
    ) -> Iterator[Row]:
        """A row for each trial on at most ``limit`` images, and one for each worst case."""
        judge = Judge(
            tuple(trials),
            self.sample(limit),
            folder,
            settings,
            about=self.about,
            parameters=self.parameters,
            progress=progress,
            examination=examination,
        )
        return judge.rows(self.name, self.outcome, self.training)

    @property
    def draws(self) -> int:
        """Number of predictions of a random victim for each image: those of its run, or 10."""
        return self.run.recipe.draws if self.run else EvaluationSettings().draws

    @staticmethod
    def of_run(run: Run, images: Examples | None = None) -> Subject:
        """The selected training of a trained run, on the run's own images or on others."""
        name = run.selected_names[-1]
        return Subject(
            name=name,
            outcome=run.outcome,
            images=run.images if images is None else images,
            about=run.recipe.about(run.name),
            parameters=run.recipe.parameters,
            training=run.recipe.trainings[name],
            threat=run.recipe.threat,
            run=run,
        )

    @staticmethod
    def of(
        model: nn.Module, images: ImageSource, labels: LabelSource = None, *, seed: int = 0
    ) -> Subject:
        """A classifier or shield, in evaluation mode, with images that fit it.

        Raises:
            ValueError: The images or labels are not images or labels, or do not fit the model.
        """
        examples = for_model(model, as_examples(images, labels, seed=seed))
        model = unwrapped(model)
        shield = _shield_of(model)
        card = model.card if isinstance(model, Shield) else None
        outcome, name, classifier = Outcome(model), UNDEFENDED, model_name(model)
        if isinstance(model, Defended):
            outcome = Outcome(model.classifier, model.purifier)
            name, classifier = purifier_name(model) or UNDEFENDED, model_name(model.innermost)
        return Subject(
            name=card.name if card else name,
            outcome=outcome,
            images=examples,
            about={
                "recipe": "audit",
                "data": examples.source,
                "split": "test",
                "classifier": card.classifier.name if card else classifier,
            },
            parameters={"weights": weights_digest(outcome.classifier)[:12]},
            training=card.training if card else None,
            threat=shield.card.threat if shield else None,
        )


def _shield_of(model: nn.Module) -> Shield | None:
    """The model, or the model behind its purifiers, if that is a shield."""
    if isinstance(model, Shield):
        return model
    return _shield_of(model.classifier) if isinstance(model, Defended) else None


def model_name(model: nn.Module) -> str:
    """The name of the class of a network, seen through wrappers."""
    if isinstance(model, WrappedClassifier):
        return name_of(model.architecture) if model.architecture else model_name(model.module)
    if isinstance(model, Defended):
        return "_".join(filter(None, (purifier_name(model), model_name(model.innermost))))
    return type(model).__name__


def classifier_card(model: nn.Module) -> ClassifierCard:
    """The card of a user's classifier."""
    if isinstance(model, WrappedClassifier):
        wrapping = True, model.mean, model.std, model.output
        return ClassifierCard(model_name(model), model.architecture, *wrapping)
    return ClassifierCard(model_name(model))


def for_model(model: nn.Module, examples: Examples) -> Examples:
    """The examples, with as many classes as the model has outputs.

    Raises:
        ForeignError: The model raises an error on these images.
        ValueError: It does not return one logit for each class, the labels name a class that it
            does not have, or it is a shield of images of another shape.
    """
    if shield := _shield_of(model):
        shield.check_shape(examples.shape)
    x = examples[:2].images(device_of(model))
    with torch.no_grad(), guarded(model, dtype=x.dtype) as classifier:
        lead = f"{model_name(model)} fails on images of shape {tuple(x.shape)}"
        logits = foreign.call(classifier, x, lead=lead)
    check_classes(examples.y, logits.shape[1])
    return with_classes(examples, logits.shape[1])


def differentiable(model: nn.Module, examples: Examples) -> bool:
    """True if gradients of the model's logits reach its images.

    Raises:
        ForeignError: The model raises an error on these images.
    """
    x = examples[:2].images(device_of(model))
    with guarded(model, dtype=x.dtype) as classifier, ambient(0):
        lead = f"{model_name(model)} fails on images of shape {tuple(x.shape)}"
        passes: bool = foreign.call(passes_gradient, classifier, x, lead=lead)
    return passes


def device_of(model: nn.Module) -> str:
    """Where the first weight of a model is; the CPU if it has none."""
    return str(next((p.device for p in (*model.parameters(), *model.buffers())), "cpu"))


@contextmanager
def subject_of(
    model: nn.Module | str | Path,
    images: ImageSource | None,
    labels: LabelSource,
    device: str | None,
    seed: int,
    purifier: PurifierSource | None = None,
    limit: int = 0,
) -> Iterator[tuple[Subject, str]]:
    """The subject that a user means, and its device.

    Args:
        purifier: A purifier in front of the model.
        limit: Read no more images of batches; 0: all.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: The model, purifier, images and labels do not fit each other.
    """
    if images is not None:
        images, labels = as_examples(images, labels, seed=seed, limit=limit), None
    elif labels is not None:
        raise ValueError("labels are given without images")
    if isinstance(model, (str, Path)):
        model = path("model", model)
    if isinstance(model, Path) and not (model / CARD).exists():
        if purifier is not None:
            raise ValueError(
                f"{model} is a training of a run; a purifier goes in front of a classifier or a "
                "saved shield, as in audit(load(RUN/TRAINING), images, purifier=...)"
            )
        run = open_run(model, device=checked_device(device))
        given = None if images is None else as_examples(images, labels, seed=seed)
        if given is not None:
            given = for_model(run.victim, given)
        yield Subject.of_run(run, given), run.device
        return
    module = load_saved(model) if isinstance(model, Path) else model
    if isinstance(module, Spear):
        raise ValueError(f"{name_of(module)} is a trained attack; give a classifier or a shield")
    if images is None:
        raise ValueError("images are missing: give test images and their labels")
    if purifier is None:
        with evaluating(module, device) as (victim, where):
            yield Subject.of(victim, images, labels, seed=seed), where
        return
    with evaluating(Defended(as_purifier(purifier), as_wrapped(module)), device) as (own, where):
        assert isinstance(own, Defended)
        examples = as_examples(images, labels, seed=seed)
        check_purifier(own.purifier, examples[:1].images(where))
        yield Subject.of(own, examples), where


@contextmanager
def evaluating(model: nn.Module, device: str | None = None) -> Iterator[tuple[nn.Module, str]]:
    """The model as a classifier in evaluation mode, and its device; the modes are restored after.

    Raises:
        ValueError: It is not an ``nn.Module``, or the device is not available.
    """
    check_network(model)
    if device is not None:
        model.to(checked_device(device))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield as_wrapped(model).eval(), device_of(model)
    finally:
        for module, training in modes.items():
            module.training = training


def check_network(model: object) -> None:
    """Raise unless a model is an ``nn.Module`` with weights; see :func:`check_model`.

    Raises:
        ValueError: It is a function, or no model.
    """
    check_model(model)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"a classifier must be an nn.Module, got {type(model).__name__}; wrap a function with "
            "as_classifier"
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """A defended model in a wrapper that changes no image, with the wrapper behind its purifier."""
    if not (isinstance(model, WrappedClassifier) and isinstance(model.module, Defended)):
        return model
    if model.mean is not None:
        return model
    purifier, inner = model.module.purifier, model.module.classifier
    behind = WrappedClassifier(inner, output=model.output, architecture=model.architecture)
    return Defended(purifier, unwrapped(behind.eval()))


def as_wrapped(model: nn.Module) -> nn.Module:
    """The model, wrapped unless it returns float32 logits for certain."""
    if type(model) is Defended:
        return Defended(model.purifier, as_wrapped(model.classifier))
    known = isinstance(model, (Defended, WrappedClassifier))
    return model if known else WrappedClassifier(model)
