"""The commands: words become values, one call of the front door does the work."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from spearshield import api, discover
from spearshield.cli import console, file_tools, networks, options
from spearshield.cli.console import out
from spearshield.experiment.folders import CARD, check_writable
from spearshield.experiment.progress_bars import progress_bars
from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run
from spearshield.experiment.shield import Shield
from spearshield.experiment.trials import is_trained
from spearshield.judging.results import Row
from spearshield.progress import Progress
from spearshield.report import write_report
from spearshield.storage.atomic import refuse_existing
from spearshield.storage.serialization import dump
from spearshield.threat import ThreatModel
from spearshield.training.loop import CHECKPOINT
from spearshield.views import Adaptive

FAILED, REFUSED = 1, 3
"""Exit status: something went wrong; nothing did, but the number does not pass the gate."""


def do_audit(words: argparse.Namespace) -> int:
    """Measure the robust accuracy of a classifier, a shield or a training of a run."""
    check_writable(words.out)
    images = options.examples(words)
    model = options.model(words, images)
    purifier = networks.purifier(words, images)
    if words.attack:
        options.refuse(words, "with --attack, only with a battery", "effort", "transfer_from")
    report = api.audit(
        model,
        images,
        purifier=purifier,
        threat=options.threat(words),
        effort=words.effort or "quick",
        attacks=options.attacks(words, model),
        views=options.views(words),
        transfer_from=[options.network(path, words) for path in words.transfer_from],
        limit=words.images,
        seed=words.seed or 0,
        device=options.device(words),
        batch_size=options.batch_size(words),
        folder=words.out,
    )
    console.table(report.rows)
    console.findings(report.rows)
    out.print(f"report: {report.save(words.out)}", markup=False)
    if isinstance(model, Shield) and purifier is None:
        model.card.write(words.model / CARD)  # with the figures of this audit
    return _gate(report.rows, words)


VALID = "no flaw found"
"""The verdict that ``--require-valid`` asks for."""

NEXT_STEP: dict[str, str] = {
    "broken": "the attacks above succeed",
    "not examined": "audit with a battery, without --attack, and on more images",
}
"""What to do about the other verdicts."""


def _gate(rows: tuple[Row, ...], words: argparse.Namespace) -> int:
    """The exit status: not 0 if a headline is too low, or has another verdict than the best."""
    complaints = []
    for row in rows:
        if row.verdict is None:
            continue
        if words.min_robust_acc is not None and row.robust_acc < words.min_robust_acc:
            complaints.append(
                f"{row.method}: robust accuracy {row.robust_acc:.2%} is below "
                f"{words.min_robust_acc:.2%}"
            )
        if words.require_valid and row.verdict != VALID:
            next_step = NEXT_STEP.get(row.verdict, "see the findings of high severity")
            complaints.append(
                f"{row.method}: robust accuracy {row.robust_acc:.2%}, {row.verdict}; {next_step}"
            )
    for complaint in complaints:
        out.print(complaint, style="red", markup=False)
    return REFUSED if complaints else 0


def do_protect(words: argparse.Namespace) -> None:
    """Train a defence for a classifier, audit it on held-out images, and save it."""
    shield = api.protect(**options.training(words), held_out=words.held_out)
    console.measured(shield.card)
    out.print(f"shield: {words.out}", markup=False)


def do_learn_attack(words: argparse.Namespace) -> None:
    """Train an attack on a classifier, and save it."""
    spear = api.learn_attack(**options.training(words))
    out.print(f"attack: {words.out}, {spear.threat}", markup=False)


def do_attack(words: argparse.Namespace) -> None:
    """Write adversarial images of a model; or perturb files by a trained attack alone.

    Raises:
        ValueError: Several attacks or views are named, or one does not fit the model.
    """
    words.attack = words.attack or ["pgd"]
    for name, given in (("attack", words.attack), ("view", words.view or ())):
        if len(given) > 1:
            raise ValueError(f"give one --{name}, got {', '.join(given)}; audit takes several")
    if not (words.model or words.classifier):
        _perturb(words)
        return
    check_writable(words.out)
    refuse_existing(words.out)
    images = options.examples(words)
    model = options.model(words, images)
    words.view = words.view or [Adaptive.cli_name()]
    (attack,) = options.attacks(words, model)
    made = api.attack(
        model,
        images,
        purifier=networks.purifier(words, images),
        attack=attack,
        threat=options.threat(words),
        limit=words.images,
        seed=words.seed or 0,
        device=options.device(words),
        batch_size=options.batch_size(words),
    )
    for verdict in made.save(words.out, words.format or "safetensors"):
        score = verdict.score
        out.print(
            f"{verdict.form:<9}  accuracy {score.acc:.2%} clean, {score.robust_acc:.2%} attacked; "
            f"largest Linf {float(score.linf.max()):.4f}, L2 {float(score.l2.max()):.3f}; "
            f"{verdict.outside} of {score.images} outside {made.trial.attack.threat}",
            markup=False,
        )


def _perturb(words: argparse.Namespace) -> None:
    """Perturb a folder of images or an npz file by a trained attack, without a model or labels."""
    (name,) = words.attack
    if not words.data or not is_trained(name):
        raise ValueError(
            "give a model, as a shield, RUN/TRAINING or --classifier; or a trained attack and "
            "files, as --attack FOLDER and --data FOLDER or NPZ"
        )
    options.refuse(words, "where a trained attack perturbs files", *options.NEED_A_MODEL)
    spear = options.spear(name, words)
    budget: ThreatModel | None = options.threat(words)
    if budget and budget != spear.threat:
        raise ValueError(f"the attack was trained for {spear.threat}, not for {budget}")
    check_writable(words.out.parent)
    assert spear.card is not None
    count = file_tools.perturb(
        spear,
        Path(words.data),
        words.out,
        spear.card.shape,
        options.device(words),
        resize=options.resize_to(words, spear.card.shape),
    )
    out.print(f"{count} images perturbed into {words.out}, {spear.threat}", markup=False)


def do_transfer(words: argparse.Namespace) -> None:
    """Attack every classifier, and classify the adversarial images by all of them.

    Raises:
        ValueError: The classifiers, images and attacks do not fit each other.
    """
    check_writable(words.out)
    images = options.examples(words)
    if images is None:
        raise ValueError("--data is missing: name the test images")
    matrix = api.transfer_matrix(
        options.classifiers(words, images),
        images,
        attacks=options.transferred(words, images),
        threat=options.threat(words),
        limit=words.images,
        seed=words.seed or 0,
        device=options.device(words),
        batch_size=options.batch_size(words),
        folder=words.out,
    )
    out.print(str(matrix), markup=False)
    out.print(f"page: {matrix.save(words.out)}", markup=False)


def do_purify(words: argparse.Namespace) -> None:
    """Purify a folder of images or an npz file."""
    shield = options.shield(words)
    count, rejected = file_tools.purify(
        shield.purifiers,
        words.input,
        words.output,
        shield.card.shape,
        options.device(words),
        resize=options.resize_to(words, shield.card.shape),
    )
    refused = f"; {rejected} of them rejected" if rejected else ""
    out.print(f"{count} images purified into {words.output}{refused}", markup=False)


def do_export(words: argparse.Namespace) -> None:
    """Write a shield as an ONNX graph."""
    shield = options.shield(words)
    shield.export_onnx(words.onnx)
    out.print(f"onnx: {words.onnx}, input images {shield.card.shape} in [0, 1]", markup=False)


def do_run(words: argparse.Namespace) -> None:
    """Train, attack, evaluate and report."""
    recipe = options.recipe(words)
    if _dry(words, recipe):
        return
    check_writable(_folder(words))
    with progress_bars() as progress:
        rows = _run(words, recipe, progress)()
    console.table(rows)
    out.print(f"report: {_folder(words) / 'report.html'}", markup=False)


def do_train(words: argparse.Namespace) -> None:
    """The trainings of a recipe."""
    recipe = options.recipe(words)
    if _dry(words, recipe):
        return
    check_writable(_folder(words))
    with progress_bars() as progress:
        made = _run(words, recipe, progress).train()
    for name in made:
        for path in sorted((_folder(words) / name).glob("*.safetensors")):
            if path.name != CHECKPOINT:
                out.print(f"weights: {path}", markup=False)


def do_selftest(words: argparse.Namespace) -> int:  # noqa: ARG001
    """Show that the judge catches flawed defences and feeble attacks, and no honest model."""
    from spearshield.selftest import selftest  # noqa: PLC0415 - slow, and only here

    with progress_bars() as progress:
        judged = [*selftest(progress=progress)]
    console.selftest(judged)
    wrong = sum(not row.passed for row in judged)
    out.print(f"{len(judged) - wrong} of {len(judged)} judged rightly", markup=False)
    return FAILED if wrong else 0


def do_report(words: argparse.Namespace) -> None:
    """Put any number of runs side by side."""
    check_writable(words.out)
    out.print(f"report: {write_report(words.runs, words.out)}", markup=False)


def _run(words: argparse.Namespace, recipe: Recipe, progress: Progress) -> Run:
    return Run(
        recipe, _name(words), _folder(words), words.data_dir, options.device(words), progress
    )


def _dry(words: argparse.Namespace, recipe: Recipe) -> bool:
    if words.dry_run:
        out.print_json(json.dumps(dump(recipe)))
    return bool(words.dry_run)


def _folder(words: argparse.Namespace) -> Path:
    folder: Path | None = words.out
    return folder or Path("runs") / _name(words)


def _name(words: argparse.Namespace) -> str:
    """The name of a recipe: its own, or the name of its file."""
    path = Path(words.recipe)
    return path.stem if path.is_file() else discover.canonical("recipes", words.recipe)
