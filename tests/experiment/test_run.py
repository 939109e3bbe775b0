"""Small runs on the embedded digits: files, rows, resuming, and errors."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from spearshield.attacks.fab import FAB
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.fmn import FMN
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.m_cnn import MCNN
from spearshield.datasets.digits import Digits
from spearshield.discover import name_of
from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run, reopen
from spearshield.judging import results
from spearshield.judging.evaluation import evaluate
from spearshield.judging.trial import Trial
from spearshield.methods.cycle_adv_gan import CycleAdvGAN
from spearshield.methods.dae import DAE
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.methods.substitute import Substitute
from spearshield.storage.atomic import write_json
from spearshield.storage.checkpoint import load as load_outcome
from spearshield.storage.digest import digest
from spearshield.storage.weights import load_weights, save_weights
from spearshield.threat import Linf
from spearshield.training.learned_attack import AttackFrom, LearnedAttack
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


def test_every_cell_has_a_row_and_every_defence_a_worst_case(done):
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


def test_a_training_may_be_given_an_earlier_defence(tmp_path):
    substitute = Training(Substitute(seeds=8, rounds=1), 1, FGSM(BUDGET), 8, trained_on="dae")
    recipe = replace(RECIPE, defences=(RECIPE.defences[0], substitute))
    run = Run(recipe, "small", tmp_path / "run")
    made = run.outcomes["substitute"]
    assert made.queries == 8
    with pytest.raises(ValueError, match="needs 'dae', which is not an earlier defence; .*: none"):
        Run(replace(recipe, defences=(substitute,)), "small", tmp_path / "other").train()
    # Its labels are predictions of the defended classifier, not of the bare one.
    victim = run.outcomes["dae"].defended
    learned = load_outcome(tmp_path / "run" / "substitute" / "checkpoint.safetensors")["state"]
    assert torch.equal(learned["labels"], victim(learned["images"]).argmax(1))


def test_an_attacker_may_train_on_the_validation_images(tmp_path):
    training = Training(Substitute(seeds=8, rounds=1, epochs=1), 1, batch_size=8)
    recipe = replace(RECIPE, defences=(training, replace(training, split="validation")))
    run = Run(recipe, "small", tmp_path / "run")
    assert len(run.outcomes) == 3
    rows = [
        {bytes(i) for i in run._load(split).pixels.numpy()} for split in ("train", "validation")
    ]
    for name, own in (("substitute", rows[0] - rows[1]), ("substitute~2", rows[1] - rows[0])):
        learned = load_outcome(tmp_path / "run" / name / "checkpoint.safetensors")["state"]
        seeds = {bytes((255 * i).round().byte().numpy()) for i in learned["images"]}
        assert len(seeds) == 8 and seeds <= own


def test_a_learned_attack_is_tried_on_the_victim_that_it_was_trained_on(tmp_path):
    """It is not a defence, so it is not attacked itself."""

    def substitute(rounds, trained_on=""):
        method = Substitute(seeds=8, rounds=rounds, epochs=1)
        return Training(method, rounds, FGSM(BUDGET), 8, trained_on)

    defences = (RECIPE.defences[0], substitute(1), substitute(2, "dae"), substitute(1, "dae"))
    recipe = replace(RECIPE, defences=defences, trials=RECIPE.trials[:1])
    run = Run(recipe, "small", tmp_path / "run")
    rows = run()
    assert [(row.method, row.attack, row.view) for row in rows] == [
        ("standard_training", "fgsm", "adaptive"),
        ("standard_training", "substitute", "adaptive"),
        ("standard_training", "worst_case", "worst_case"),
        ("dae", "fgsm", "oblivious"),
        ("dae", "substitute", "adaptive"),
        ("dae", "substitute", "adaptive"),
        ("dae", "worst_case", "worst_case"),
    ]
    learned = [row.parameters["attack"] for row in rows if row.attack == "substitute"]
    assert [attack["training"]["method"]["rounds"] for attack in learned] == [1, 2, 1]
    assert [attack["queries"] for attack in learned] == [8, 16, 8]
    worst = rows[-1]
    assert worst.images == 40 and worst.parameters["cells"] == 3
    # Each is the FGSM of its own network, on the victim that it was trained on.
    score = evaluate(run.outcomes["dae"].defended, run.attack("substitute~2"), run.images)
    assert score.robust_acc == rows[4].robust_acc
    # A trained run is evaluated under the given trials alone.
    judged = replace(run, trained=run.folder, folder=tmp_path / "judged")
    assert [row.attack for row in judged.rows() if row.method == "dae"] == ["fgsm", "worst_case"]


def test_the_purifier_of_a_method_is_tried_with_the_attack_of_the_method(tmp_path, monkeypatch):
    class Both(DAE):
        def learner(self, task):
            learner = super().learner(task)
            outcome = learner.outcome
            attack = LearnedAttack(BUDGET, torch.nn.Sigmoid().eval())
            monkeypatch.setattr(learner, "outcome", lambda: replace(outcome(), attack=attack))
            return learner

    defences = (Training(Both(width=4), 1, batch_size=8),)
    recipe = replace(RECIPE, defences=defences, trials=RECIPE.trials[:1])
    run = Run(recipe, "small", tmp_path / "run")
    name = name_of(Both())
    rows = [(row.method, row.attack, row.view) for row in run.evaluate()]
    assert ("standard_training", name, "adaptive") in rows and (name, name, "oblivious") in rows


@pytest.fixture(scope="module")
def rounds(tmp_path_factory) -> Run:
    """Two rounds: the second attack is trained on the attack and purifier of the first."""
    first = Training(CycleAdvGAN(BUDGET, width=2), 2, FGSM(BUDGET), 16, name="one", precompute=True)
    second = replace(first, name="two", trained_on="one")
    trials = tuple(Trial(AttackFrom(BUDGET, name), Oblivious()) for name in ("one", "two"))
    recipe = replace(RECIPE, defences=(first, second), trials=trials, images=20)
    run = Run(recipe, "rounds", tmp_path_factory.mktemp("runs") / "rounds")
    run()
    return run


def test_trainings_have_names_and_their_attacks_are_tried_on_every_victim(rounds):
    rows = results.read(rounds.folder / "results.json")
    met = ("one", "two", "worst_case")
    assert [(r.method, r.attack) for r in rows] == [
        (victim, attack) for victim in ("standard_training", "one", "two") for attack in met
    ]
    made = [r.parameters["attack"]["training"] for r in rows if r.attack == "two"]
    assert {(t["name"], t["trained_on"]) for t in made} == {("two", "one")}
    assert (rounds.folder / "one" / "attacked" / "000000.safetensors").exists()


def test_a_round_is_given_the_pair_of_the_round_before(rounds):
    first, second = rounds.outcomes["one"], rounds.outcomes["two"]
    x = rounds.images.images()
    torch.testing.assert_close(second.classifier(x), first.defended(x))
    torch.testing.assert_close(second.defended(x), first.defended(second.purifier(x)))


def test_the_purifiers_of_a_round_are_those_of_all_rounds(rounds):
    second, x = rounds.outcomes["two"], rounds.images.images()
    bare = rounds.outcomes["standard_training"].classifier
    torch.testing.assert_close(bare(second.defended.purifiers(x)), second.defended(x))


def test_a_purifier_may_be_trained_on_the_attack_of_an_earlier_training(tmp_path):
    first = Training(CycleAdvGAN(BUDGET, width=2), 2, FGSM(BUDGET), 16, name="one")
    second = Training(DAE(width=4), 2, AttackFrom(BUDGET, "one"), 16, name="two", precompute=True)
    run = Run(replace(RECIPE, defences=(first, second)), "left", tmp_path / "run")
    run.train()
    kept = load_outcome(tmp_path / "run" / "two" / "attacked" / "000000.safetensors")["x_adv"]
    shown = run.training_set[run.training_set.ids.argsort()][: len(kept)]
    x = shown.images()
    torch.testing.assert_close(kept, run.attack("one")(run.bare.classifier, x, shown.y))
    with pytest.raises(ValueError, match="two needs 'one', which is not an earlier defence"):
        Run(replace(RECIPE, defences=(second,)), "left", tmp_path / "other").train()


def test_an_attack_of_no_training_is_refused_before_anything_is_done(tmp_path):
    trials = (Trial(AttackFrom(BUDGET, "uap")),)
    with pytest.raises(ValueError, match="no 'uap' in this run; it has standard_training, dae"):
        Run(replace(RECIPE, trials=trials), "small", tmp_path / "run").train()
    assert not (tmp_path / "run").exists()


def test_a_missing_attack_or_another_budget_is_refused(done, rounds):
    with pytest.raises(ValueError, match="dae is not an attack: its method learns none"):
        done.attack("dae")
    other = (Trial(AttackFrom(Linf(0.2), "one")),)
    with pytest.raises(ValueError, match=r"attack of 'one' was trained for Linf\(eps=0.1\), not"):
        _ = replace(rounds, recipe=replace(rounds.recipe, trials=other)).trials


def test_a_manifest_without_newer_fields_is_the_same_recipe(done, tmp_path):
    manifest = json.loads((done.folder / "recipe.json").read_text())
    for training in (manifest["recipe"]["pretraining"], *manifest["recipe"]["defences"]):
        del training["name"], training["precompute"]
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
    assert worst.verdict == "not trustworthy"


def test_the_folder_holds_what_the_documentation_says(done):
    there = {p.name for p in done.folder.iterdir()}
    assert {"recipe.json", "results.json", "report.html", "report.md", "outcomes"} <= there
    for name in ("standard_training", "dae", "dae~2", "pgd_adversarial_training"):
        files = {p.name for p in (done.folder / name).iterdir()}
        assert files >= {"checkpoint.safetensors", "losses.jsonl", "weights.safetensors"}
        assert list((done.folder / name / "tensorboard").glob("events*"))
    assert len(list((done.folder / "pictures").glob("dae.fgsm.oblivious*.safetensors"))) == 1


def test_the_exported_weights_are_those_of_the_victim(done):
    victim = done.outcomes["dae"].defended
    copy = reopen(done.folder).outcomes["dae"].defended
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    load_weights(copy, done.folder / "dae" / "weights.safetensors")
    x = done.images.images()
    torch.testing.assert_close(copy(x), victim(x))


def test_running_again_repeats_nothing(done, monkeypatch):
    before = (done.folder / "results.json").read_bytes()
    monkeypatch.setattr("spearshield.judging.cached_evaluation.evaluate", None)
    monkeypatch.setattr("spearshield.methods.dae.DAELearner.step", None)
    Run(RECIPE, "small", done.folder)()
    assert (done.folder / "results.json").read_bytes() == before


def test_a_folder_of_another_recipe_is_refused_and_left_alone(done):
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
    (tmp_path / "recipe.json").unlink()
    for name in ("checkpoint.safetensors", "weights.safetensors"):
        (tmp_path / "standard_training" / name).write_bytes(
            (done.folder / "standard_training" / name).read_bytes()
        )
    again = Run(shared.recipe, "small", tmp_path).evaluate()
    assert len(list((tmp_path / "outcomes").iterdir())) == 4
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
    with pytest.raises(ValueError, match="no 'magnet' in this run; it has standard_training, dae"):
        _ = replace(done, selected="magnet").victim


def test_a_broken_recipe_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        reopen(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(ValueError, match="is not a recipe of this version"):
        reopen(tmp_path)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match="is not a recipe of this version"):
        reopen(tmp_path)


@pytest.fixture
def strangers_run(done, tmp_path):
    """A finished run whose recipe.json names a function that would end the process."""
    folder = tmp_path / "stranger"
    shutil.copytree(done.folder, folder)
    manifest = json.loads((folder / "recipe.json").read_text())
    user = {"type": "spearshield.classifiers.user:User", "target": "os:abort"}
    manifest["recipe"]["classifier"] = user
    (folder / "recipe.json").write_text(json.dumps(manifest))
    return replace(reopen(folder), selected="dae")


def test_a_strangers_run_purifies_without_its_function(done, strangers_run):
    x = done.images.images()
    torch.testing.assert_close(strangers_run.victim.purifiers(x), done.outcomes["dae"].purifier(x))


def test_a_strangers_function_is_not_called(strangers_run, tmp_path):
    message = "only a file names.*add --classifier os:abort"
    with pytest.raises(ValueError, match=message):
        strangers_run.victim(strangers_run.images.images())
    with pytest.raises(ValueError, match=message):
        replace(strangers_run, folder=tmp_path / "judged").evaluate()
    with pytest.raises(ValueError, match=message):
        save_weights(strangers_run.victim, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=message):
        Run(strangers_run.recipe, "stranger", tmp_path / "again")()


def test_an_unfinished_run_is_not_trained_by_reopening_it(done, tmp_path):
    done.recipe.check_names()
    Run(RECIPE, "small", tmp_path).write_manifest()
    with pytest.raises(ValueError, match="0 of 8 steps; finish it first"):
        _ = reopen(tmp_path).victim


def test_a_damaged_copy_of_weights_is_written_again(done):
    path = done.folder / "dae" / "weights.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    Run(RECIPE, "small", done.folder).train()
    assert path.read_bytes() == whole


def test_no_manifest_is_written_into_the_folder_of_a_training(done):
    with pytest.raises(ValueError, match="dae holds a training; choose another --out"):
        replace(reopen(done.folder), folder=done.folder / "dae", selected="dae").evaluate()
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
