"""Attacks that a run trains: their victims, rounds of attacks and purifiers, and errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from experiment.test_run import BUDGET, RECIPE
from spearshield.attacks.fgsm import FGSM
from spearshield.discover import name_of
from spearshield.experiment.run import Run
from spearshield.judging import results
from spearshield.judging.evaluation import evaluate
from spearshield.judging.trial import Trial
from spearshield.methods.cycle_adv_gan import CycleAdvGAN
from spearshield.methods.dae import DAE
from spearshield.methods.substitute import Substitute
from spearshield.storage.checkpoint import load as load_outcome
from spearshield.threat import Linf
from spearshield.training.learned_attack import AttackFrom, LearnedAttack
from spearshield.training.loop import Training
from spearshield.views import Oblivious


def test_a_method_may_be_trained_on_an_earlier_defence(tmp_path):
    substitute = Training(Substitute(seeds=8, rounds=1), 1, FGSM(BUDGET), 8, trained_on="dae")
    recipe = replace(RECIPE, defences=(RECIPE.defences[0], substitute))
    run = Run(recipe, "small", tmp_path / "run")
    made = run.outcomes["substitute"]
    assert made.queries == 8
    with pytest.raises(
        ValueError, match="needs 'dae', which is not an earlier defence; .* there are none"
    ):
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


def test_a_learned_attack_is_evaluated_on_the_victim_that_it_was_trained_on(tmp_path):
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


def test_the_purifier_of_a_method_is_evaluated_under_the_attack_of_the_method(
    tmp_path, monkeypatch
):
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


def test_trainings_have_names_and_their_attacks_are_evaluated_on_every_victim(rounds):
    rows = results.read(rounds.folder / "results.json")
    met = ("one", "two", "worst_case")
    assert [(r.method, r.attack) for r in rows] == [
        (victim, attack) for victim in ("standard_training", "one", "two") for attack in met
    ]
    made = [r.parameters["attack"]["training"] for r in rows if r.attack == "two"]
    assert {(t["name"], t["trained_on"]) for t in made} == {("two", "one")}
    assert (rounds.folder / "one" / "attacked" / "000000.safetensors").exists()


def test_a_round_is_trained_on_the_defended_classifier_of_the_round_before(rounds):
    first, second = rounds.outcomes["one"], rounds.outcomes["two"]
    x = rounds.images.images()
    torch.testing.assert_close(second.classifier(x), first.defended(x))
    torch.testing.assert_close(second.defended(x), first.defended(second.purifier(x)))


def test_the_victim_of_a_round_has_the_purifiers_of_all_rounds(rounds):
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


def test_an_attack_without_a_training_is_refused_before_the_first_step(tmp_path):
    trials = (Trial(AttackFrom(BUDGET, "uap")),)
    with pytest.raises(ValueError, match="no 'uap' in this run; there are .*dae"):
        Run(replace(RECIPE, trials=trials), "small", tmp_path / "run").train()
    assert not (tmp_path / "run").exists()


def test_an_attack_of_another_budget_is_refused(rounds):
    other = (Trial(AttackFrom(Linf(0.2), "one")),)
    with pytest.raises(ValueError, match=r"attack of 'one' was trained for Linf 0.1, not"):
        _ = replace(rounds, recipe=replace(rounds.recipe, trials=other)).trials("one")
