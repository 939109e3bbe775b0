"""Independent repetitions of trainings in a run, and attacks that are transferred between them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from experiment.test_run import BUDGET, RECIPE
from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.experiment import learned_attacks
from spearshield.experiment.learned_attacks import transfer_view
from spearshield.experiment.overrides import override
from spearshield.experiment.run import Run
from spearshield.judging import results
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.methods.dae import DAE
from spearshield.methods.standard_training import StandardTraining
from spearshield.methods.substitute import Substitute
from spearshield.rng import ambient
from spearshield.storage.serialization import dump, load
from spearshield.threat import Linf
from spearshield.training import loop
from spearshield.training.loop import Training
from spearshield.training.transfer_attack import TransferFrom
from spearshield.views import Adaptive, Oblivious, Transferred

STANDARD = RECIPE.pretraining
SOURCES = ("standard_training", "standard_training~2", "dae")
MATRIX = replace(
    RECIPE,
    defences=(replace(STANDARD, replicate=1), RECIPE.defences[0]),
    trials=tuple(Trial(TransferFrom(BUDGET, name, FGSM(BUDGET))) for name in SOURCES),
)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory) -> Run:
    """Victims and sources: the bare classifier, another training of it, and a purifier before it.

    The purifier is ``dae``.
    """
    run = Run(MATRIX, "matrix", tmp_path_factory.mktemp("runs") / "matrix")
    run()
    return run


def weights(run, name):
    return run.outcomes[name].classifier.state_dict()


@fails_under("repetitions with the same seed", (loop.Training, "seed", lambda self, seed: seed))
def test_a_repetition_has_its_own_weights_and_order(tmp_path):
    """Also with a learning rate of zero, where the result is the initial weights."""
    for lr in (0.0, 1e-3):
        fresh = Training(StandardTraining(lr=lr), 1, batch_size=32)
        same = replace(fresh, name="same")
        defences = (same, replace(fresh, replicate=1), replace(same, replicate=2))
        recipe = replace(RECIPE, pretraining=fresh, defences=defences)
        run = Run(recipe, "small", tmp_path / str(lr))
        assert [*run.outcomes] == ["standard_training", "same", "standard_training~2", "same~3"]
        bare, *others = (weights(run, name)["conv1.weight"] for name in run.outcomes)
        assert [torch.equal(bare, other) for other in others] == [True, False, False]
        assert not torch.equal(others[1], others[2])
    with ambient(RECIPE.seed, step=-2):
        expected = RECIPE.classifier.build((1, 8, 8), 10)
    drawn = Run(recipe, "small", tmp_path / "0.0")._untrained(fresh)
    assert all(map(torch.equal, drawn.state_dict().values(), expected.state_dict().values()))


def test_a_row_for_every_victim_and_source_under_its_own_view(matrix):
    rows = results.read(matrix.folder / "results.json")
    made = [(row.method, row.attack, row.view) for row in rows if row.attack != "worst_case"]
    first, second, third = (f"fgsm_from_{name}" for name in SOURCES)
    assert made == [
        ("standard_training", first, "adaptive"),
        ("standard_training", second, "transferred"),
        ("standard_training", third, "transferred"),
        ("standard_training~2", first, "transferred"),
        ("standard_training~2", second, "adaptive"),
        ("standard_training~2", third, "transferred"),
        ("dae", first, "oblivious"),
        ("dae", second, "transferred"),
        ("dae", third, "adaptive"),
    ]
    assert rows[1].parameters["attack"]["names"] == [SOURCES[1]]


def test_the_images_are_those_of_the_source(matrix):
    x, y = matrix.images.images(), matrix.images.y
    source = matrix.outcomes["standard_training~2"].defended
    attack = matrix.trials("dae")[1].attack
    torch.testing.assert_close(attack(matrix.victim, x, y), FGSM(BUDGET)(source, x, y))
    longer = replace(MATRIX, trials=(Trial(TransferFrom(BUDGET, "dae", more=SOURCES[:1])),))
    run = replace(matrix, recipe=longer)
    (trial,) = run.trials("standard_training")
    assert trial.attack.sources[1].innermost is run.bare.classifier
    assert trial.attack.on_sources == PGD(BUDGET, steps=40, early_stop=False)
    assert (trial.view, len(trial.attack.sources)) == (Adaptive(), 2)


@fails_under(
    "purifiers ignored", (learned_attacks, "_parts", lambda victim: [id(victim.innermost)])
)
def test_the_view_follows_from_the_modules_that_victim_and_source_share():
    nothing, one, two = torch.nn.Identity(), torch.nn.Sigmoid(), torch.nn.Sigmoid()
    bare, other = torch.nn.Flatten(), torch.nn.Flatten()
    source = Defended(one, bare)
    for victim, view in (
        (Defended(one, bare), Adaptive()),
        (Defended(nothing, Defended(one, bare)), Adaptive()),
        (Defended(two, Defended(one, bare)), Oblivious()),
        (Defended(two, bare), Transferred()),
        (Defended(nothing, bare), Transferred()),
        (Defended(one, other), Transferred()),
    ):
        assert transfer_view(victim, [source]) == view
    victim = Defended(one, bare)
    assert transfer_view(victim, [Defended(nothing, other), source]) == Adaptive()
    assert transfer_view(victim, [Defended(nothing, bare), Defended(one, other)]) == Oblivious()


def test_a_reference_is_a_value_of_the_recipe():
    attack = MATRIX.trials[1].attack
    assert load(json.loads(json.dumps(dump(MATRIX)))) == MATRIX
    assert attack.display_name == "fgsm_from_standard_training~2"
    assert replace(attack, attack=None, more=("dae",)).display_name == (
        "pgd_from_standard_training~2_and_dae"
    )
    with pytest.raises(ValueError, match="reference to the classifiers of standard_training~2;"):
        attack(lambda x: x.flatten(1)[:, :2], torch.rand(1, 1, 4, 4), torch.tensor([0]))


def test_its_fields_can_be_set_one_after_the_other():
    changed = override(MATRIX, "trials.0.attack.threat.eps", "0.2")
    with pytest.raises(ValueError, match=r"the attack is on Linf 0.1, not Linf 0.2"):
        changed.check_names()
    changed = override(changed, "trials.0.attack.attack.threat.eps", "0.2")
    changed = override(changed, "trials.0.attack.attack", "pgd")
    changed = override(changed, "trials.0.attack.training", "dae")
    changed.check_names()
    assert changed.trials[0].attack == TransferFrom(Linf(0.2), "dae", PGD(Linf(0.2)))
    assert (
        override(MATRIX, "defences.standard_training~2.replicate", "4").defences[0].replicate == 4
    )


def test_removing_a_source_removes_its_trials():
    kept = override(MATRIX, "defences", "dae")
    assert [trial.attack.training for trial in kept.trials] == ["standard_training", "dae"]
    kept = override(MATRIX, "defences", "standard_training~2")
    assert [trial.attack.training for trial in kept.trials] == [*SOURCES[:2]]


def test_a_reference_that_does_not_fit_is_refused_before_the_first_step(tmp_path):
    unknown = Trial(TransferFrom(BUDGET, "dae", more=("standard_training~3",)))
    with pytest.raises(ValueError, match="no 'standard_training~3' in this run; .*training~2"):
        Run(replace(MATRIX, trials=(unknown,)), "small", tmp_path / "run").train()
    learner = Training(DAE(width=4), 1, TransferFrom(BUDGET, "dae"), name="late")
    with pytest.raises(ValueError, match="late is trained on pgd_from_dae, which only trials"):
        Run(replace(MATRIX, defences=(learner,)), "small", tmp_path / "run").train()
    assert not (tmp_path / "run").exists()


def test_a_training_of_an_attack_alone_is_no_source(tmp_path):
    attack = Training(Substitute(seeds=8, rounds=1, epochs=1), 1, FGSM(BUDGET), 8)
    trials = (Trial(TransferFrom(BUDGET, "substitute")),)
    recipe = replace(RECIPE, defences=(attack,), trials=trials)
    with pytest.raises(ValueError, match="substitute is no source of a transfer attack"):
        Run(recipe, "small", tmp_path / "run").trials("standard_training")


def test_equal_names_are_numbered_after_the_numbers_of_repetitions():
    dae = Training(DAE(), 1)
    defences = (dae, dae, replace(dae, replicate=1), replace(dae, name="a~b"), dae)
    named = replace(RECIPE, defences=(*defences, replace(dae, name="a~b"))).trainings
    assert [*named][1:] == ["dae", "dae~2", "dae~3", "a~b", "dae~4", "a~b~2"]
