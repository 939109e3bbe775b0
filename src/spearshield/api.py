"""The front door: audit, protect and attack a classifier, train an attack, load a saved one.

Images are floats in [0, 1] or 8-bit numbers, of shape (n, c, h, w), (n, h, w, c) or (n, h, w); a
``DataLoader``, a data set of PyTorch or other batches of (images, labels); a data set of this
package or its name; or the path of an npz file or of a folder of images. Labels are class ids of
shape (n,), omitted if the images have them. A classifier is any ``nn.Module`` from images in [0, 1]
to logits; :func:`as_classifier` wraps others. No function changes the weights or the mode of a
model.
"""

from __future__ import annotations

import copy
import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal, get_args

from torch import nn

from spearshield.adversary import Attack
from spearshield.arguments import optional_path, path, switch
from spearshield.experiment.as_examples import (
    ImageSource,
    LabelSource,
    as_examples,
    drawn,
    training_examples,
)
from spearshield.experiment.audit import Report, folder_of
from spearshield.experiment.card import Measured
from spearshield.experiment.defaults import budget_for, training_for
from spearshield.experiment.device import checked_device
from spearshield.experiment.folders import CARD, RECIPE
from spearshield.experiment.learning import Learning
from spearshield.experiment.opened import open_run, shield_of, spear_of, with_name
from spearshield.experiment.progress_bars import progress_bars
from spearshield.experiment.purifier import PurifierSource
from spearshield.experiment.shield import Shield, Spear, load_saved
from spearshield.experiment.subject import check_network, evaluating, for_model, subject_of
from spearshield.experiment.transfer import (
    TransferMatrix,
    attacks_of,
    check_gradients,
    evaluated,
    record,
)
from spearshield.experiment.transfer import folder_of as folder_of_matrix
from spearshield.experiment.trials import (
    AttackSource,
    ViewSource,
    as_attack,
    as_view,
    asked,
    battery,
    trials_of,
)
from spearshield.judging import adversarial_set
from spearshield.judging.adversarial_set import AdversarialSet
from spearshield.judging.battery import IMAGES
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.examination import Examination
from spearshield.judging.transferability import transferability
from spearshield.logits import Output
from spearshield.method import Method
from spearshield.nets.wrapped_classifier import PerChannel, WrappedClassifier, numbers
from spearshield.ranges import checked_seed, optional_whole, whole_number
from spearshield.rng import permutation
from spearshield.spelling import known
from spearshield.threat import ThreatModel

Effort = Literal["quick", "standard"]


def as_classifier(
    model: nn.Module | Callable[..., Any],
    *,
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    output: Output = "logits",
) -> WrappedClassifier:
    """A classifier from images in [0, 1] to float32 logits, around any model.

    Args:
        model: A module or function. It may return a tensor or array; a tuple or list, of which the
            first tensor counts; or a mapping or object, of which ``logits`` counts; in any
            precision and on any device.
        mean, std: The normalisation that it expects, one number in [0, 1] for each channel.
        output: The kind of numbers that it returns: ``logits``, ``probabilities``, or for two
            classes and one output ``binary_logit`` or ``binary_probability``; verified at a call.

    Raises:
        ValueError: The model cannot be called or has no weights yet; or ``mean`` and ``std`` do not
            fit each other, or are not in [0, 1].
    """
    return WrappedClassifier(model, numbers(mean), numbers(std), output)


def audit(
    model: nn.Module | str | Path,
    images: ImageSource | None = None,
    labels: LabelSource = None,
    *,
    purifier: PurifierSource | None = None,
    threat: ThreatModel | None = None,
    effort: Effort = "quick",
    attacks: AttackSource | Sequence[AttackSource] = (),
    views: ViewSource | Sequence[ViewSource] = (),
    transfer_from: Sequence[nn.Module] = (),
    limit: int | None = None,
    seed: int = 0,
    device: str | None = None,
    batch_size: int = 250,
    examine: bool = True,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Report:
    """Measure robust accuracy against adaptive attacks, and check whether it can be trusted.

    Args:
        model: A classifier, a shield, or RUN/TRAINING, one training of a finished run.
        images, labels: Test images; a training of a run has its own.
        purifier: A module or function from images to images, to put in front of the model.
        threat: The threat model; by default the shield's own.
        effort: The battery of attacks, ``quick`` or ``standard``; see ``docs/evaluation.md``.
        attacks: Attacks in place of a battery, as values, names, or folders of trained ones.
        views: The views of the attacker, or their names; by default oblivious, adaptive and BPDA.
        transfer_from: Other classifiers, whose adversarial images a battery tries as well.
        limit: Number of images, drawn by seed 0, or the first of a run or of batches; 0: all. By
            default all for ``attacks``, else 200 for ``quick`` and 1,000 for ``standard``.
        seed: Seed of all attacks.
        device: Where to compute; by default where the model is.
        batch_size: Images attacked at a time; changes speed and memory, not results.
        examine: With a battery, also examine the model for hidden gradients and other flaws, and
            follow a grave finding with more attacks. Otherwise the verdict is ``not examined``.
        folder: Folder for the outcomes of one audit, which a repeated call resumes.
        progress: Show progress bars.

    Raises:
        ValueError: These do not fit each other, or ``folder`` holds something else or is in use.
    """
    seed, limit = checked_seed(seed), optional_whole("limit", limit)
    effort, examine = known(effort, get_args(Effort), "effort"), switch("examine", examine)
    attacks, views, sources = asked(attacks, views, transfer_from)
    kept = optional_path("folder", folder)
    with subject_of(model, images, labels, device, seed, purifier, limit or 0) as (subject, where):
        trials = [trial for one in attacks for trial in trials_of(one, threat, subject, views)]
        trials = trials or battery(effort, threat, subject, sources)
        if limit is None:
            limit = 0 if attacks else IMAGES[effort]
        settings = EvaluationSettings(seed, subject.draws, batch_size, where)
        place = kept or Path(mkdtemp(prefix="spearshield-"))
        examination = Examination(effort=effort) if examine and not attacks else None
        claim = folder_of(place, subject, trials, limit, settings.seed)
        with claim as record, progress_bars(progress) as bars:
            rows = subject.rows(trials, limit, settings, place, bars, examination)
            report = Report(tuple(rows), place, record)
    if kept is None:
        weakref.finalize(report, shutil.rmtree, place, ignore_errors=True)
    if isinstance(model, Shield) and purifier is None:
        measured = Measured.of(report.worst, "attacks" if attacks else effort)
        model.card = replace(model.card, measured=measured)
    return report


def transfer_matrix(
    classifiers: Mapping[str, nn.Module],
    images: ImageSource,
    labels: LabelSource = None,
    *,
    attacks: Attack | str | Sequence[Attack | str] = ("fgsm", "pgd"),
    threat: ThreatModel | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str | None = None,
    batch_size: int = 250,
    folder: str | Path | None = None,
    progress: bool = True,
) -> TransferMatrix:
    """Attack every classifier, and classify the adversarial images by all of them.

    Args:
        classifiers: At least two classifiers or shields, each with its name.
        images, labels: Test images.
        attacks: Attacks, as values or names. Attacks given by name do not stop early.
        threat: The threat model of attacks given by name; by default the usual one for the shape.
        limit: Number of images, drawn by seed 0; 0: all; by default 1,000.
        seed, device, batch_size, progress: As for :func:`audit`.
        folder: Folder for the predictions, which a repeated call resumes.

    Raises:
        ValueError: These do not fit each other, or ``folder`` holds something else or is in use.
    """
    seed, limit = checked_seed(seed), optional_whole("limit", limit)
    kept = optional_path("folder", folder)
    examples = drawn(as_examples(images, labels, seed=seed), IMAGES["standard"], limit)
    with evaluated(classifiers, examples, device) as (networks, examples, where):
        chosen = attacks_of(attacks, threat, examples)
        check_gradients(networks, chosen, examples)
        settings = EvaluationSettings(seed, batch_size=batch_size, device=where)
        place = kept or Path(mkdtemp(prefix="spearshield-"))
        try:
            claim = folder_of_matrix(place, networks, chosen, examples, seed)
            with claim, progress_bars(progress) as bars:
                measured, origin = transferability(
                    networks, chosen, examples, settings, place, bars
                )
        finally:
            if kept is None:
                shutil.rmtree(place, ignore_errors=True)
    return TransferMatrix(measured, record(measured, chosen, examples, seed, origin))


def protect(
    model: nn.Module,
    images: ImageSource,
    labels: LabelSource = None,
    *,
    method: str | Method = "ape_gan",
    threat: ThreatModel | None = None,
    training_attack: Attack | str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    held_out: int = 200,
    seed: int = 0,
    device: str | None = None,
    folder: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Shield:
    """Train a defence for a classifier, and audit it on images that were held out.

    Ctrl-C saves the state of the training; the same call resumes it.

    Args:
        model: A trained classifier. The shield gets a copy.
        images, labels: Training images.
        method: The name of a method, or a method with its hyper-parameters.
        threat: The threat model; by default the usual one for the shape of the images.
        training_attack: The attack that the defence is trained on, or its name; by default PGD
            with 7 steps. Given by name, it does not stop early.
        steps: Batches to train on; by default 20 passes over the images, between 400 and 5,000.
        batch_size: Images in a batch; by default 64, or fewer for small sets.
        held_out: Images set aside for a closing quick audit without examination, at most a fifth;
            0: no audit.
        seed: Seed of the training and of the audit.
        device: Where to compute; by default where the model is.
        folder: Folder for the state of the training; by default ``runs/METHOD-DIGEST``.
        out: Folder for the shield alone, saved before the closing audit, which adds its figures.
        progress: Show progress bars.

    Raises:
        ValueError: The arguments do not fit each other, the method trains no defence, or a folder
            holds something else or is in use.
        Interrupted: A signal stopped the training; the message names the folder of its state.
    """
    seed = checked_seed(seed)
    held_out = whole_number("held_out", held_out)
    state, out = optional_path("folder", folder), optional_path("out", out)
    with evaluating(model, device) as (classifier, where):
        examples = for_model(classifier, training_examples(images, labels, seed))
        order = permutation(len(examples), seed, epoch=0)
        aside = min(held_out, len(examples) // 5)
        shown = examples[order[aside:].sort().values]
        budget = budget_for(threat, examples.shape)
        training = training_for(method, shown, budget, training_attack, steps, batch_size)
        learning = Learning(copy.deepcopy(classifier), training, budget, seed, where, state, out)
        with progress_bars(progress) as bars:
            shield = learning.shield(shown, bars)
    if aside:
        rest = examples[order[:aside]]
        audit(shield, rest, threat=budget, seed=seed, examine=False, progress=progress)
    if out:
        shield.card.write(out / CARD)
    return shield


def learn_attack(
    model: nn.Module,
    images: ImageSource,
    labels: LabelSource = None,
    *,
    method: str | Method = "adv_gan",
    threat: ThreatModel | None = None,
    training_attack: Attack | str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    device: str | None = None,
    folder: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Spear:
    """Train an attack on a classifier: a network that perturbs images in one forward pass.

    See :func:`protect` for the arguments.

    Raises:
        ValueError, Interrupted: See :func:`protect`; or the method trains no such network.
    """
    seed = checked_seed(seed)
    state, out = optional_path("folder", folder), optional_path("out", out)
    with evaluating(model, device) as (classifier, where):
        examples = for_model(classifier, training_examples(images, labels, seed))
        budget = budget_for(threat, examples.shape)
        training = training_for(method, examples, budget, training_attack, steps, batch_size)
        learning = Learning(copy.deepcopy(classifier), training, budget, seed, where, state, out)
        with progress_bars(progress) as bars:
            return learning.spear(examples, bars)


def attack(
    model: nn.Module | str | Path,
    images: ImageSource | None = None,
    labels: LabelSource = None,
    *,
    purifier: PurifierSource | None = None,
    attack: AttackSource = "pgd",
    threat: ThreatModel | None = None,
    view: ViewSource = "adaptive",
    limit: int | None = None,
    seed: int = 0,
    device: str | None = None,
    batch_size: int = 250,
    progress: bool = True,
) -> AdversarialSet:
    """Adversarial images for a classifier, with its predictions; ``save`` writes them to a folder.

    Args:
        model, images, labels, purifier: As for :func:`audit`.
        attack: The attack, as a value, by name, or by the folder of a trained one.
        threat: The threat model, if the attack is given by name.
        view: The view of the attacker.
        limit, seed, device, batch_size, progress: As for :func:`audit`; by default all images.

    Raises:
        ValueError: The model, images, labels or attack do not fit each other.
    """
    seed, limit = checked_seed(seed), optional_whole("limit", limit)
    attack, view = as_attack(attack), as_view(view)
    with (
        subject_of(model, images, labels, device, seed, purifier, limit or 0) as (subject, where),
        progress_bars(progress) as bars,
    ):
        (trial,) = trials_of(attack, threat, subject, [view])
        examples = subject.sample(limit)
        return adversarial_set.make(
            subject.outcome.defended,
            trial,
            examples,
            EvaluationSettings(seed, subject.draws, batch_size, where),
            bars(f"attack {subject.name}", len(examples)),
        )


def load(
    folder: str | Path, *, classifier: nn.Module | None = None, device: str = "cpu"
) -> Shield | Spear:
    """The shield or spear in a folder. No data are needed, and no code that it names is called.

    Args:
        folder: What ``save`` wrote; or RUN/TRAINING, one training of a finished run.
        classifier: The user's own network; a copy gets the saved weights. Not needed to purify,
            except where the method trained the classifier.
        device: Where to put the networks.

    Raises:
        FileNotFoundError: There is nothing in the folder that was saved or trained.
        ValueError: It cannot be read, or does not fit the classifier.
    """
    place, device = with_name(path("folder", folder)), checked_device(device)
    if classifier is not None:
        check_network(classifier)
    if place.is_file():
        raise ValueError(f"{place} is a file; give the folder that holds it")
    if (place / CARD).exists():
        saved = load_saved(place, classifier)
    elif (place / RECIPE).exists() or (place.parent / RECIPE).exists():
        run = open_run(place, device=device)
        saved = shield_of(run) if run.outcome.is_defence else spear_of(run)
    else:
        raise FileNotFoundError(f"{place} holds no {CARD}, and is not a training of a run")
    (saved if isinstance(saved, nn.Module) else saved.network).to(device)
    return saved
