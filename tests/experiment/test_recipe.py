"""Recipes: JSON round trips, overrides of single fields, and the errors of wrong ones."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
import torch

from mutations import fails_under
from spearshield import discover
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.lenet import LeNet
from spearshield.datasets.digits import Digits
from spearshield.experiment import overrides
from spearshield.experiment.overrides import override
from spearshield.experiment.recipe import Recipe, load_recipe
from spearshield.judging.trial import Trial
from spearshield.methods.ape_gan import APEGAN
from spearshield.methods.dae import DAE
from spearshield.methods.standard_training import StandardTraining
from spearshield.storage.serialization import dump, load
from spearshield.threat import L2, Linf
from spearshield.training.augmentation import Augmentation
from spearshield.training.learned_attack import AttackFrom, LearnedAttack
from spearshield.training.loop import Training
from spearshield.training.warp import Warp
from spearshield.views import BPDA, EOT, Adaptive, Transferred

RECIPE = Recipe(
    data=Digits(),
    classifier=LeNet(),
    pretraining=Training(StandardTraining(), steps=5),
    defences=(
        Training(APEGAN(width=16), steps=3, learn_from=FGSM(Linf(0.1))),
        Training(DAE(), steps=4),
    ),
    trials=(Trial(PGD(Linf(8 / 255), step_size=0.02)), Trial(PGD(L2(0.5), steps=100), BPDA())),
)


def test_json_round_trip():
    assert load(json.loads(json.dumps(dump(RECIPE)))) == RECIPE


@pytest.mark.parametrize("name", discover.names("recipes"))
def test_every_recipe_is_plain_json_with_a_description(name):
    recipe = discover.load("recipes", name).RECIPE
    assert load(json.loads(json.dumps(dump(recipe)))) == recipe
    assert len(discover.names("recipes")[name]) > 20


@pytest.mark.parametrize(
    ("path", "text", "read"),
    [
        ("seed", "7", lambda r: r.seed == 7),
        ("images", "100", lambda r: r.images == 100),
        ("split", "validation", lambda r: r.split == "validation"),
        ("defences.ape_gan.method.width", "32", lambda r: r.defences[0].method.width == 32),
        ("defences.1.steps", "9", lambda r: r.defences[1].steps == 9),
        ("defences", "dae", lambda r: [type(t.method) for t in r.defences] == [DAE]),
        ("defences", "", lambda r: r.defences == ()),
        ("classifier", "m_cnn", lambda r: type(r.classifier).__name__ == "MCNN"),
        ("data.validation", "10", lambda r: r.data.validation == 10),
        ("trials.0.attack", "fgsm", lambda r: r.trials[0].attack == FGSM(Linf(8 / 255))),
        ("trials.0.attack.threat.eps", "0.5", lambda r: r.trials[0].attack.threat == Linf(0.5)),
        ("trials.0.attack.step_size", "0.01", lambda r: r.trials[0].attack.step_size == 0.01),
        ("trials.0.attack.step_size", "none", lambda r: r.trials[0].attack.step_size is None),
        ("trials.0.attack.early_stop", "false", lambda r: not r.trials[0].attack.early_stop),
        ("trials.0.view", "eot(7)", lambda r: r.trials[0].view == EOT(7)),
        ("trials.0.view", "eot(7, bpda)", lambda r: r.trials[0].view == EOT(7, BPDA())),
        (
            "trials.0.view",
            "eot(7, bpda(approximation))",
            lambda r: r.trials[0].view == EOT(7, BPDA("approximation")),
        ),
        (
            "trials.0.view",
            "bpda(approximation)",
            lambda r: r.trials[0].view == BPDA("approximation"),
        ),
        ("trials.pgd-bpda.view", "eot", lambda r: r.trials[1].view == EOT()),
        ("pretraining.method.lr", "1e-2", lambda r: r.pretraining.method.lr == 0.01),
        ("defences.0.learn_from", "none", lambda r: r.defences[0].learn_from is None),
    ],
)
def test_override_makes_a_changed_copy(path, text, read):
    assert not read(RECIPE)
    assert read(override(RECIPE, path, text))


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("sed", "1", "no field 'sed' in Recipe; there are seed"),
        ("defences.ape_gan.method.widht", "3", "no field 'widht' in APEGAN; there are width"),
        ("defences.magnet.steps", "3", r"no element 'magnet'; there are .*dae \(or 1\)"),
        ("defences.7.steps", "3", "no element '7'"),
        ("seed", "one", "seed: 'one' is not a whole number"),
        ("split", "tset", "no split 'tset'; there are test"),
        ("trials.0.attack", "pdg", "no attack 'pdg'; the closest of .* are pgd"),
        ("trials.0.attack.early_stop", "yes", "no early_stop 'yes'; there are"),
        ("trials.0.attack.threat.eps", "-1", "eps must be above 0, got -1.0"),
        ("trials.0.attack.threat", "linf", "threat cannot be set as a whole"),
        ("trials.0", "fgsm", "is a whole element"),
        ("trials", "fgsm", "cannot be set as a whole"),
        ("classifier", "lnet", "lenet"),
        ("data", "mnits", "mnist"),
        ("trials.0.view", "whitebox", "no view 'whitebox'; there are .*adaptive"),
        ("trials.0.view", "eot(many)", "draws: 'many' is not a whole number"),
        ("trials.0.view", "eot(7, oblivious)", "of must be adaptive or bpda, got 'oblivious'"),
        ("trials.0.view", "eot(7, bpda, 3)", "view eot has no setting beyond draws, of, got"),
        ("trials.0.view", "adaptive(3)", "view adaptive has no setting"),
        ("defences.dae.learn_from", "fgsm", "FGSM needs threat, which the old value None"),
        (
            "defences.dae.learn_from.eps",
            "1",
            "learn_from is None, which has no fields; set it in a",
        ),
        ("defences.dae.augmentation.shift", "-1", "shift must be at least 0"),
        ("images", "-5", "images must be at least 0"),
        ("draws", "0", "draws must be at least 1"),
        ("seed.deeper", "1", "has no fields"),
    ],
)
def test_a_wrong_override_names_the_right_ones(path, text, said):
    with pytest.raises(ValueError, match=said):
        override(RECIPE, path, text)


@pytest.mark.parametrize(
    "kind",
    [
        "os:system",
        "spearshield.storage.serialization:load",
        "spearshield.storage.serialization:import_module",
        "spearshield.__main__:main",
        "spearshield.absent:Value",
        "nonsense",
        None,
    ],
)
def test_refuses_to_load_anything_but_values_of_the_package(kind):
    with pytest.raises(ValueError, match="refusing"):
        load({"type": kind})


def test_a_training_is_addressed_by_its_name():
    first = Training(APEGAN(), steps=3, name="narrow")
    recipe = replace(RECIPE, defences=(first, *RECIPE.defences))
    assert override(recipe, "defences.narrow.steps", "9").defences[0].steps == 9
    assert override(recipe, "defences.ape_gan.steps", "9").defences[1].steps == 9
    assert override(recipe, "defences", "dae,narrow").defences == (RECIPE.defences[1], first)
    with pytest.raises(ValueError, match="name takes .* letters, digits, .* got '../away'"):
        replace(first, name="../away")


@fails_under(
    "values of other settings than the defaults where none is set",
    (overrides, "_default", lambda kind, old: kind(**{fields(kind)[0].name: 3})),
)
def test_a_value_that_is_not_set_has_default_settings():
    shifted = override(RECIPE, "defences.dae.augmentation.flip", "true")
    assert shifted.defences[1].augmentation == Augmentation(flip=True)
    turned = override(RECIPE, "defences.dae.augmentation.warp.zoom", "0.2")
    assert turned.defences[1].augmentation == Augmentation(warp=Warp(zoom=0.2))


@fails_under(
    "trials of removed defences kept",
    (overrides, "_without_trials_of", lambda old, changed: changed),
)
def test_removing_a_defence_removes_the_trials_of_its_attack():
    recipe = discover.load("recipes", "cycle_adv_gan_mnist").RECIPE
    kept = override(recipe, "defences", "cycle_pgd,adv_gan")
    assert [t.display_name for t in kept.defences] == ["cycle_pgd", "adv_gan"]
    left = [t.attack.training for t in kept.trials if isinstance(t.attack, AttackFrom)]
    assert left == ["cycle_pgd", "adv_gan"]
    others = [t for t in recipe.trials if not isinstance(t.attack, AttackFrom)]
    assert [t for t in kept.trials if not isinstance(t.attack, AttackFrom)] == others
    assert override(recipe, "defences.adv_gan.steps", "3").trials == recipe.trials


@fails_under("every attack transferred", (Trial, "__post_init__", lambda self: None))
def test_only_learned_attacks_are_transferred():
    assert Trial(AttackFrom(Linf(0.1), "uap"), Transferred()).view == Transferred()
    with pytest.raises(ValueError, match="pgd attacks the victim itself"):
        Trial(PGD(Linf(0.1)), Transferred())


def test_adaptive_is_the_default_view():
    assert Trial(PGD(Linf(0.1))).view == Adaptive()


def test_a_network_is_named_by_its_digest_and_not_loaded():
    def dumped(value):
        network = torch.nn.BatchNorm2d(1)
        network.running_mean += value
        return dump(LearnedAttack(Linf(0.1), network.to(memory_format=torch.channels_last)))

    written = json.loads(json.dumps(dumped(0.5)))
    assert written["network"]["type"] == "torch.nn.modules.batchnorm:BatchNorm2d"
    assert len(written["network"]["sha256"]) == 64
    assert written == dumped(0.5) != dumped(0.25)
    with pytest.raises(ValueError, match="refusing to load .*BatchNorm2d.*train its method again"):
        load(written)


def edited(change) -> object:
    written = json.loads(json.dumps(dump(RECIPE)))
    change(written)
    return written


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda r: r["defences"][0]["method"].update(width="16"),
            "defences.0.method.width must be",
        ),
        (lambda r: r["defences"][0].update(steps=-4), "defences.0: steps must be"),
        (lambda r: r["defences"][0].update(method={"type": "x:Y"}), "refusing to load 'x:Y'"),
        (lambda r: r.update(defences=None), "defences must be a list of Training, got None"),
        (lambda r: r.update(seed=1.5), "seed must be int, got 1.5"),
        (lambda r: r.update(seed=True), "seed must be int, got True"),
        (lambda r: r.update(split="tset"), "split must be .*validation.*, got 'tset'"),
        (lambda r: r.update(classifier=r["data"]), "classifier must be Architecture"),
        (lambda r: r.update(speed=1), "speed is unknown; Recipe has data, classifier"),
        (lambda r: r.pop("data"), "^data is missing"),
    ],
)
def test_an_edited_recipe_is_refused_by_the_name_of_its_field(change, said):
    with pytest.raises(ValueError, match=said):
        load(edited(change))


def test_whole_numbers_of_json_are_read_as_floats():
    read = load(edited(lambda r: r["pretraining"]["method"].update(lr=1)))
    assert type(read.pretraining.method.lr) is float


def test_a_recipe_is_read_by_name_and_from_a_file(tmp_path):
    assert load_recipe("quickstart") == discover.load("recipes", "quickstart").RECIPE
    path = tmp_path / "mine.json"
    for content in (dump(RECIPE), {"name": "mine", "recipe": dump(RECIPE), "images": {}}):
        path.write_text(json.dumps(content))
        assert load_recipe(str(path)) == RECIPE


def test_a_file_that_is_not_a_recipe_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no recipe 'quikstart'; the closest of"):
        load_recipe("quikstart")
    with pytest.raises(FileNotFoundError, match="absent.json"):
        load_recipe(str(tmp_path / "absent.json"))
    path = tmp_path / "mine.json"
    deep = "[" * 100_000 + "]" * 100_000
    for content, said in (
        ("{", r"mine\.json is not JSON"),
        ("{}", "not a recipe of this version: the object has no field 'type'"),
        (deep, "nested deeper than 100"),
        (json.dumps(dump(Digits())), "is not a recipe: it holds Digits"),
        ("[]", "holds a JSON list; it must hold an object"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=said):
            load_recipe(str(path))
