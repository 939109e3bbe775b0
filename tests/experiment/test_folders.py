"""A folder holds one thing: nothing is written over or beside another result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from experiment.test_run import RECIPE
from mutations import fails_under
from spearshield import api
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.experiment import audit as audit_module
from spearshield.experiment import folders
from spearshield.experiment.run import Run
from spearshield.judging import results
from spearshield.storage import lock
from spearshield.threat import Linf
from spearshield.views import Adaptive

BUDGET = Linf(0.1)
X, Y = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 10
QUIET = {"progress": False}


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()


def audit(folder, victim=None, attack=FGSM(BUDGET), **changes):  # noqa: B008 - a frozen value
    given = {"views": [Adaptive()], "limit": 8, "folder": folder, **QUIET, **changes}
    return api.audit(victim or model(), X, Y, attacks=[attack], **given)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    recipe = replace(RECIPE, defences=RECIPE.defences[:1], trials=RECIPE.trials[:1])
    made = Run(recipe, "small", tmp_path_factory.mktemp("runs") / "small")
    made()
    return made


@pytest.fixture(scope="module")
def shield(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    protect(folder / "state").save(folder / "shield")
    return folder / "shield"


def protect(folder, victim=None, **changes):
    given = {"threat": BUDGET, "steps": 1, "held_out": 0, "batch_size": 8, **QUIET, **changes}
    return api.protect(victim or model(), X, Y, folder=folder, **given)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@fails_under(
    "folder that is not looked at",
    (audit_module, "refuse_others", lambda *_: None),
    raises=pytest.fail.Exception,
)
def test_an_audit_is_not_written_into_a_run_a_training_or_a_shield(run, shield):
    for victim, folder, holds in (
        (run.folder / "dae", run.folder / "dae", "a training"),
        (run.folder / "dae", run.folder, "a run"),
        (api.load(shield, classifier=model()), shield, "a saved shield"),
    ):
        before = listing(folder)
        images = () if folder != shield else (X, Y)
        with pytest.raises(ValueError, match=f"holds {holds}.*choose another folder"):
            api.audit(victim, *images, attacks=["fgsm"], threat=BUDGET, folder=folder, **QUIET)
        assert listing(folder) == before
    assert api.load(run.folder / "dae").purify(X[:2]).shape == (2, 1, 8, 8)


def test_nothing_else_is_written_into_the_training_of_a_run(run, shield):
    training = run.folder / "dae"
    before = listing(training)
    with pytest.raises(ValueError, match="holds a training of a run"):
        protect(training)
    with pytest.raises(ValueError, match="holds a training of a run"):
        api.load(shield).save(training)
    with pytest.raises(ValueError, match="holds a training"):
        protect(None, out=training)
    with pytest.raises(ValueError, match="holds a training"):
        Run(run.recipe, "small", training)()
    with pytest.raises(ValueError, match="holds a training"):
        audit(None).save(training)
    assert listing(training) == before


def test_a_run_or_a_shield_is_not_written_over_something_else(run, shield, tmp_path):
    audit(tmp_path / "audit")
    for folder, holds in ((shield, "a saved shield"), (tmp_path / "audit", "an audit")):
        before = listing(folder)
        with pytest.raises(ValueError, match=f"holds {holds}"):
            Run(run.recipe, "small", folder)()
        assert listing(folder) == before
    with pytest.raises(ValueError, match="holds an audit"):
        api.load(shield).save(tmp_path / "audit")
    with pytest.raises(ValueError, match="holds a run"):
        protect(run.folder)
    with pytest.raises(ValueError, match="holds a run"):
        api.load(shield).save(run.folder)


OTHERS = {
    "weights": {"victim": model(1)},
    "trials": {"attack": FGSM(Linf(0.2))},
    "trials.0.attack.steps": {"attack": PGD(BUDGET, steps=2)},
    "images": {"limit": 9},
    "seed": {"seed": 1},
}


@pytest.mark.parametrize("field", OTHERS)
def test_another_audit_in_the_folder_is_refused_and_the_first_stays(tmp_path, field):
    audit(tmp_path / "a", attack=PGD(BUDGET, steps=3)).save(tmp_path / "a")
    before = listing(tmp_path / "a")
    changes = {"attack": PGD(BUDGET, steps=3), **OTHERS[field]}
    with pytest.raises(ValueError, match=rf"result of another audit \(other .*{field}"):
        audit(tmp_path / "a", **changes)
    with pytest.raises(ValueError, match="result of another audit"):
        audit(None, **changes).save(tmp_path / "a")
    assert listing(tmp_path / "a") == before


def test_the_same_audit_is_resumed(tmp_path, monkeypatch):
    first = audit(tmp_path / "a")
    first.save(tmp_path / "a")
    monkeypatch.setattr("spearshield.judging.cached_evaluation.evaluate", None)
    again = audit(tmp_path / "a")
    assert all(row.reused for row in again.rows) and not any(row.reused for row in first.rows)
    assert "reused            1 of 1 attacks" in str(again) and "reused" not in str(first)
    assert again.robust == first.robust and again.worst.created == first.worst.created
    again.save(tmp_path / "a")
    again.save(tmp_path / "copy")
    assert results.read(tmp_path / "copy" / "results.json") == [*again.rows]
    assert listing(tmp_path / "copy" / "pictures") == listing(tmp_path / "a" / "pictures")


def test_an_audit_that_failed_before_it_began_leaves_its_folder_free(tmp_path):
    with pytest.raises(ValueError, match="probabilities"):
        audit(tmp_path / "a", nn.Sequential(model(1), nn.Softmax(1)))
    audit(tmp_path / "a")


def test_results_of_an_unknown_origin_are_not_replaced(run, tmp_path):
    audit(None).save(tmp_path / "a")
    (tmp_path / "a" / "audit.json").unlink()
    with pytest.raises(ValueError, match="holds results"):
        audit(tmp_path / "a")
    with pytest.raises(ValueError, match="holds results"):
        Run(run.recipe, "small", tmp_path / "a")()


def test_a_state_folder_of_another_training_names_what_differs(tmp_path):
    protect(tmp_path)
    for changes, field in (
        ({"victim": model(1)}, "classifier"),
        ({"steps": 2}, "steps"),
        ({"seed": 1}, "images, seed|seed, images|seed"),
    ):
        with pytest.raises(ValueError, match=f"the state of another training .other .*({field})"):
            protect(tmp_path, **changes)
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(ValueError, match=r"training\.json is not JSON"):
        protect(tmp_path)


def test_a_state_folder_without_newer_fields_is_that_of_the_same_training(tmp_path):
    protect(tmp_path)
    record = json.loads((tmp_path / "training.json").read_text())
    del record["training"]["replicate"]
    (tmp_path / "training.json").write_text(json.dumps(record))
    protect(tmp_path)
    with pytest.raises(ValueError, match=r"other training.steps"):
        protect(tmp_path, steps=2)


@contextmanager
def held(folder: Path):
    """Another process holds the lock of the folder inside the block."""
    program = "import sys; from pathlib import Path; from spearshield.storage.lock import locked\n"
    program += "with locked(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    source = str(Path(lock.__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": source},
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield
        other.kill()


@fails_under(
    "audit without a lock",
    (audit_module, "locked", contextmanager(lambda folder: iter([folder.mkdir(exist_ok=True)]))),
    raises=pytest.fail.Exception,
)
def test_a_second_process_in_a_folder_says_so(run, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "WAIT", 0.1)
    learn = {"method": "uap", "threat": BUDGET, "steps": 1, "batch_size": 8, **QUIET}
    folder = tmp_path / "taken"
    calls = (
        lambda: audit(folder),
        lambda: protect(folder),
        lambda: api.learn_attack(model(), X, Y, folder=folder, **learn),
        Run(run.recipe, "small", folder),
    )
    with held(folder):
        for call in calls:
            with pytest.raises(
                ValueError, match=r"taken is in use by another process \(process \d+ on .*\); wait"
            ):
                call()
    assert [*listing(folder)] == [".lock"]
    audit(folder)  # the lock of a process that was killed holds nobody up


def test_the_second_process_waits_a_moment(tmp_path):
    program = "import sys, time; from pathlib import Path\n"
    program += "from spearshield.storage.lock import locked\n"
    program += "with locked(Path(sys.argv[1])): print(flush=True); time.sleep(0.5)"
    env = os.environ | {"PYTHONPATH": str(Path(lock.__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env=env
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with lock.locked(tmp_path):
            pass


def test_a_report_is_saved_although_the_folder_of_its_outcomes_is_gone(tmp_path):
    report = audit(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    report.save(tmp_path / "b")
    assert results.read(tmp_path / "b" / "results.json") == [*report.rows]


def test_the_record_of_an_audit_says_what_its_numbers_are_about(tmp_path):
    report = audit(tmp_path)
    record = json.loads((tmp_path / folders.AUDIT).read_text())
    assert record["weights"] == report.worst.weights_digest
    assert record["data"] == report.worst.data_digest
    assert (record["images"], record["seed"], record["method"]) == (8, 0, "undefended")
    assert record["trials"][0]["attack"]["threat"]["eps"] == 0.1
