"""Small runs on the embedded digits: files, rows, resuming, and errors."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from spearshield.attacks.fab import FAB
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.fmn import FMN
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.m_cnn import MCNN
from spearshield.classifiers.user import User
from spearshield.datasets.digits import Digits
from spearshield.datasets.npz import Npz
from spearshield.experiment.opened import open_run
from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run
from spearshield.judging import results
from spearshield.judging.trial import Trial
from spearshield.methods.dae import DAE
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.storage.atomic import write_json
from spearshield.storage.checkpoint import load as load_outcome
from spearshield.storage.digest import digest
from spearshield.storage.weights import load_weights, save_weights
from spearshield.threat import Linf
from spearshield.training.loop import Training
from spearshield.views import BPDA, Adaptive, Oblivious

BUDGET = Linf(0.1)
RECIPE = Recipe(
    data=Digits(),
    classifier=MCNN(),
    pretraining=Training(StandardTraining(), steps=8, batch_size=32),
    defences=(
        Training(DAE(width=4), steps=4, batch_size=32),
        Training(PGDAdversarialTraining(), 3, FGSM(BUDGET), batch_size=32),
        Training(DAE(width=8), steps=2, batch_size=32),
    ),
    trials=(
        Trial(FGSM(BUDGET), Oblivious()),
        Trial(PGD(BUDGET, steps=2), Adaptive()),
        Trial(PGD(BUDGET, steps=2), BPDA()),
    ),
    images=40,
)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Run:
    run = Run(RECIPE, "small", tmp_path_factory.mktemp("runs") / "small")
    run()
    return run


def test_every_trial_has_a_row_and_every_defence_a_worst_case(done):
    rows = results.read(done.folder / "results.json")
    cells = [(r.method, r.attack, r.view) for r in rows]
    purified = [("fgsm", "oblivious"), ("pgd", "adaptive"), ("pgd", "bpda")]
    bare = [("fgsm", "adaptive"), ("pgd", "adaptive")]
    worst = [("worst_case", "worst_case")]
    expected = []
    for method, met in [
        ("standard_training", bare),
        ("dae", purified),
        ("pgd_adversarial_training", bare),
        ("dae~2", purified),
    ]:
        expected += [(method, *cell) for cell in met + worst]
    assert cells == expected
    for method in {r.method for r in rows}:
        mine = [r for r in rows if r.method == method]
        headline = next(r for r in mine if r.attack == "worst_case")
        assert headline.robust_acc <= min(r.robust_acc for r in mine)
        assert headline.images == 40 and headline.eps == 0.1 and headline.threat == "Linf"


def test_a_trial_on_fewer_images_bounds_the_worst_case_to_them(tmp_path):
    few = Trial(PGD(BUDGET, steps=2), Adaptive(), images=7)
    recipe = replace(RECIPE, defences=(), trials=(Trial(FGSM(BUDGET)), few))
    rows = Run(recipe, "small", tmp_path / "run").evaluate()
    assert [(r.attack, r.images) for r in rows] == [("fgsm", 40), ("pgd", 7), ("worst_case", 7)]


def test_a_trial_on_survivors_attacks_only_survivors(tmp_path):
    """The second trial attacks the images that the first did not break; its score is for all."""
    weak = Linf(0.1)
    first = Trial(PGD(weak, steps=1, step_size=0.001, random_start=False))
    second = Trial(PGD(weak, steps=20), survivors=True)
    longer = replace(RECIPE.pretraining, steps=60)
    recipe = replace(RECIPE, pretraining=longer, defences=(), trials=(first, second))
    rows = Run(recipe, "small", tmp_path / "run").evaluate()
    before, after, worst = rows
    assert after.images == before.images == 40
    assert after.robust_acc < before.robust_acc and worst.robust_acc == after.robust_acc
    stored = [load_outcome(p) for p in (tmp_path / "run" / "outcomes").glob("*")]
    assert sorted(len(s["ids"]) for s in stored) == [round(40 * before.robust_acc), 40]


def test_a_method_without_an_attack_is_refused_as_one(done):
    with pytest.raises(ValueError, match="dae is not an attack: its method trains no attack"):
        done.attack("dae")


def test_a_manifest_without_newer_fields_is_the_same_recipe(done, tmp_path):
    manifest = json.loads((done.folder / "recipe.json").read_text())
    for training in (manifest["recipe"]["pretraining"], *manifest["recipe"]["defences"]):
        del training["name"], training["precompute"], training["replicate"]
    (tmp_path / "recipe.json").write_text(json.dumps(manifest))
    Run(RECIPE, "small", tmp_path).write_manifest()
    with pytest.raises(ValueError, match=r"another recipe \(other seed\)"):
        Run(replace(RECIPE, seed=1), "small", tmp_path).write_manifest()


def test_only_minimal_attacks_have_a_curve(tmp_path):
    trials = (
        Trial(FMN(BUDGET, steps=4)),
        Trial(FMN(BUDGET, steps=3), survivors=True),
        Trial(FAB(BUDGET, targets=0, steps=2)),
        Trial(FAB(BUDGET, targets=0, steps=2, early_stop=False)),
        Trial(FGSM(BUDGET)),
    )
    recipe = replace(RECIPE, defences=(), trials=trials)
    rows = Run(recipe, "small", tmp_path / "run").evaluate()
    assert [row.curve is not None for row in rows] == [True, False, False, True, False, False]
    for row in rows[0], rows[3]:
        assert row.curve[0] == (0.0, row.acc) and row.curve[-1] == (row.eps, row.robust_acc)


def test_only_worst_cases_have_a_verdict(done):
    rows = results.read(done.folder / "results.json")
    for row in rows:
        assert (row.verdict is not None) == (row.attack == "worst_case")
    oblivious = replace(RECIPE, trials=RECIPE.trials[:1], defences=RECIPE.defences[:1])
    *_, worst = Run(oblivious, "small", done.folder, selected="dae").rows()
    assert [found["check"] for found in worst.findings] == ["no_white_box"]
    assert worst.verdict == "not examined"


def test_the_folder_has_the_documented_files(done):
    there = {p.name for p in done.folder.iterdir()}
    assert {"recipe.json", "results.json", "report.html", "report.md", "outcomes"} <= there
    for name in ("standard_training", "dae", "dae~2", "pgd_adversarial_training"):
        files = {p.name for p in (done.folder / name).iterdir()}
        assert files >= {"checkpoint.safetensors", "losses.jsonl", "weights.safetensors"}
        assert list((done.folder / name / "tensorboard").glob("events*"))
    assert len(list((done.folder / "pictures").glob("dae.fgsm.oblivious*.safetensors"))) == 1


def test_the_exported_weights_equal_the_weights_of_the_victim(done):
    victim = done.outcomes["dae"].defended
    copy = open_run(done.folder).outcomes["dae"].defended
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    load_weights(copy, done.folder / "dae" / "weights.safetensors")
    x = done.images.images()
    torch.testing.assert_close(copy(x), victim(x))


def test_running_again_repeats_nothing(done, monkeypatch):
    before = results.read(done.folder / "results.json")
    monkeypatch.setattr("spearshield.judging.cached_evaluation.evaluate", None)
    monkeypatch.setattr("spearshield.methods.dae.DAELearner.step", None)
    Run(RECIPE, "small", done.folder)()
    again = results.read(done.folder / "results.json")
    assert again == [replace(row, reused=True) for row in before]


def test_a_folder_of_another_recipe_is_refused_and_not_changed(done):
    before = (done.folder / "recipe.json").read_bytes()
    other = replace(RECIPE, seed=1, defences=(replace(RECIPE.defences[0], steps=5),))
    with pytest.raises(ValueError, match=r"another recipe \(other defences, seed\)"):
        Run(other, "small", done.folder)()
    deeper = replace(RECIPE, classifier=MCNN(), data=Digits(validation=7))
    with pytest.raises(ValueError, match=r"other data\.validation"):
        Run(deeper, "small", done.folder).train()
    assert (done.folder / "recipe.json").read_bytes() == before


def test_an_interrupted_evaluation_is_resumed(tmp_path, monkeypatch):
    from spearshield.judging import cached_evaluation

    measured = []
    real = cached_evaluation.evaluate

    def evaluate(victim, attack, *rest, **options):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(attack)
        return real(victim, attack, *rest, **options)

    small = replace(RECIPE, defences=RECIPE.defences[:1])
    run = Run(small, "small", tmp_path)
    monkeypatch.setattr(cached_evaluation, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(cached_evaluation, "evaluate", real)
    assert len(list((tmp_path / "outcomes").iterdir())) == 2
    rows = Run(small, "small", tmp_path)()
    assert len(rows) == 7


def test_other_weights_are_evaluated_again(done, tmp_path):
    """A stored result is used only for the victim on which it was measured."""
    other = replace(RECIPE, pretraining=Training(StandardTraining(lr=0.5), 8, batch_size=32))
    rows = Run(replace(other, defences=()), "small", tmp_path).evaluate()
    shared = replace(done, folder=tmp_path, recipe=replace(RECIPE, defences=()), trained=None)
    for name in ("recipe.json", "results.json", "standard_training/training.json"):
        (tmp_path / name).unlink()
    for name in ("checkpoint.safetensors", "weights.safetensors"):
        (tmp_path / "standard_training" / name).write_bytes(
            (done.folder / "standard_training" / name).read_bytes()
        )
    again = Run(shared.recipe, "small", tmp_path).evaluate()
    assert len(list((tmp_path / "outcomes").iterdir())) == 2
    assert not any(row.reused for row in again)
    assert [r.acc for r in rows] != [r.acc for r in again]


def test_a_run_evaluates_the_trainings_of_another(done, tmp_path):
    trial = Trial(FGSM(Linf(0.3)), Adaptive())
    judged = replace(
        done,
        recipe=replace(RECIPE, trials=(trial,)),
        folder=tmp_path,
        trained=done.folder,
        selected="dae",
    )
    rows = judged.evaluate()
    assert [(r.method, r.attack, r.eps) for r in rows] == [
        ("dae", "fgsm", 0.3),
        ("dae", "worst_case", 0.3),
    ]
    assert not (tmp_path / "dae").exists()


def test_an_unknown_training_lists_the_trainings(done):
    with pytest.raises(ValueError, match="no 'magnet' in this run; there are .*dae~2"):
        _ = replace(done, selected="magnet").victim


def test_a_broken_recipe_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is neither a saved shield or attack nor"):
        open_run(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(ValueError, match="is not a recipe of this version"):
        open_run(tmp_path)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match=r"recipe\.json is not JSON"):
        open_run(tmp_path)


@pytest.fixture
def run_with_a_function(done, tmp_path):
    """A finished run whose recipe.json names a function that would end the process."""
    folder = tmp_path / "foreign"
    shutil.copytree(done.folder, folder)
    manifest = json.loads((folder / "recipe.json").read_text())
    user = {"type": "spearshield.classifiers.user:User", "target": "os:abort"}
    manifest["recipe"]["classifier"] = user
    (folder / "recipe.json").write_text(json.dumps(manifest))
    return replace(open_run(folder), selected="dae")


def test_a_run_with_a_function_purifies_without_calling_it(done, run_with_a_function):
    x = done.images.images()
    torch.testing.assert_close(
        run_with_a_function.victim.purifiers(x), done.outcomes["dae"].purifier(x)
    )


def test_a_function_that_only_a_file_names_is_not_called(run_with_a_function, tmp_path):
    message = "only a file names.*add --classifier os:abort"
    with pytest.raises(ValueError, match=message):
        run_with_a_function.victim(run_with_a_function.images.images())
    with pytest.raises(ValueError, match=message):
        replace(run_with_a_function, folder=tmp_path / "judged").evaluate()
    with pytest.raises(ValueError, match=message):
        save_weights(run_with_a_function.victim, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=message):
        Run(run_with_a_function.recipe, "foreign", tmp_path / "again")()


def test_an_unfinished_run_is_not_trained_by_reopening_it(done, tmp_path):
    done.recipe.check_names()
    Run(RECIPE, "small", tmp_path).write_manifest()
    with pytest.raises(ValueError, match="0 of 8 steps; finish it first"):
        _ = open_run(tmp_path).victim


@pytest.mark.parametrize("part", [0, 0.5, 1.5])
def test_a_damaged_copy_of_weights_is_written_again(done, part):
    path = done.folder / "dae" / "weights.safetensors"
    whole = path.read_bytes()
    path.write_bytes((whole + whole)[: int(part * len(whole))])
    Run(RECIPE, "small", done.folder)()
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("recipe.json", "is not JSON"),
        ("dae/training.json", "is not JSON"),
        ("dae/checkpoint.safetensors", "truncated or not a checkpoint"),
        ("outcomes/dae.fgsm.*", "delete it to compute it again"),
    ],
)
def test_another_damaged_file_is_refused_by_name(done, tmp_path, pattern, said):
    shutil.copytree(done.folder, tmp_path / "run")
    (path,) = (tmp_path / "run").glob(pattern)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=said) as caught:
        Run(RECIPE, "small", tmp_path / "run")()
    assert path.name in str(caught.value)


def test_no_manifest_is_written_into_the_folder_of_a_training(done):
    with pytest.raises(ValueError, match="dae holds a training; choose another folder"):
        replace(open_run(done.folder), folder=done.folder / "dae", selected="dae").evaluate()
    assert not (done.folder / "dae" / "recipe.json").exists()


def test_other_weights_under_the_same_name_are_refused(done, tmp_path):
    """Defences that were trained for the old weights must not be combined with the new ones."""
    path = tmp_path / "bare.safetensors"
    save_weights(done.bare.classifier, path)
    recipe = replace(RECIPE, weights=str(path), defences=())
    run = Run(recipe, "small", tmp_path / "run")
    run.write_manifest()
    manifest = json.loads((run.folder / "recipe.json").read_text())
    assert len(manifest.pop("weights_sha256")) == 64
    (run.folder / "recipe.json").write_text(json.dumps(manifest))  # as an older version wrote it
    run.write_manifest()
    write_json(run.folder / "recipe.json", manifest | {"weights_sha256": digest(path.read_bytes())})
    run.write_manifest()
    save_weights(MCNN().build(*done.data_shape), path)
    with pytest.raises(ValueError, match=r"another recipe \(other weights_sha256\)"):
        Run(recipe, "small", tmp_path / "run").write_manifest()


def test_a_replaced_file_of_weights_is_refused_by_the_run_and_not_read_when_it_is_opened(
    done, tmp_path
):
    path, folder = tmp_path / "bare.safetensors", tmp_path / "run"
    save_weights(done.bare.classifier, path)
    recipe = replace(RECIPE, weights=str(path), defences=RECIPE.defences[:1])
    run = Run(recipe, "small", folder)
    run.train()
    x = done.images.images()[:5]
    torch.testing.assert_close(open_run(folder / "dae").victim(x), run.outcomes["dae"].defended(x))
    save_weights(MCNN().build(*done.data_shape), path)
    with pytest.raises(ValueError, match=r"other weights_sha256\)"):
        Run(recipe, "small", folder)()
    torch.testing.assert_close(open_run(folder / "dae").victim(x), run.outcomes["dae"].defended(x))
    replace(open_run(folder / "dae"), folder=tmp_path / "judged").evaluate()
    kept, written = ((f / "recipe.json").read_bytes() for f in (folder, tmp_path / "judged"))
    assert kept == written
    path.unlink()
    torch.testing.assert_close(open_run(folder / "dae").victim(x), run.outcomes["dae"].defended(x))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A recipe with a user's network and images; ``change`` alters one of both."""
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.integers(0, 256, (40, 8, 8), np.uint8) for part in ("train", "test")}
    arrays |= {f"y_{part}": np.arange(40) % 3 for part in ("train", "test")}
    monkeypatch.syspath_prepend(str(tmp_path))
    source = (
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x) * 2\n"
        "def build():\n"
        "    return Net(nn.Flatten(), nn.Linear(64, 3))\n"
    )

    def change(array="", code=""):
        if array:
            arrays[array] = arrays[array][::-1].copy()
        np.savez(tmp_path / "own.npz", **arrays)
        (tmp_path / "own_network.py").write_text(source + code)
        sys.modules.pop("own_network", None)
        importlib.invalidate_caches()

    change()
    recipe = replace(
        RECIPE,
        data=Npz(path=str(tmp_path / "own.npz"), validation=4),
        classifier=User.named("own_network:build"),
        pretraining=Training(StandardTraining(), steps=2, batch_size=8),
        defences=(Training(DAE(width=4), steps=2, batch_size=8),),
        trials=RECIPE.trials[:1],
    )
    return recipe, change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"array": "x_train"}, r"other images\)"),
        ({"array": "y_train"}, r"other images\)"),
        ({"code": "Net.forward = lambda self, x: nn.Sequential.forward(self, x)\n"}, "classifier"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_trainings_for_other_data_or_another_network_do_not_stay(
    own, tmp_path, monkeypatch, change, said, finished
):
    recipe, alter = own
    folder = tmp_path / "run"
    if not finished:
        monkeypatch.setattr("spearshield.training.loop.fit", None)
        with pytest.raises(TypeError):
            Run(recipe, "own", folder)()
        monkeypatch.undo()
        monkeypatch.syspath_prepend(str(tmp_path))
    else:
        Run(recipe, "own", folder)()
        Run(recipe, "own", folder)()
    alter(**change)
    with pytest.raises(ValueError, match=f"holds another training .*{said}"):
        Run(recipe, "own", folder)()


def test_other_test_images_are_attacked_anew_and_the_trainings_stay(own, tmp_path):
    recipe, alter = own
    first = Run(recipe, "own", tmp_path / "run")()
    alter(array="x_test")
    again = Run(recipe, "own", tmp_path / "run")()
    assert not any(row.reused for row in again)
    assert first[0].data_digest != again[0].data_digest
    assert first[0].weights_digest == again[0].weights_digest
