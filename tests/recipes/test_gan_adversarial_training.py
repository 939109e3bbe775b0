"""The recipes of robust training on small artificial data, and the tables of their results."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fixtures.recipes import recipe, small
from fixtures.scripts import script
from spearshield.judging import results


@pytest.mark.parametrize(
    "name", ["gan_adversarial_training_mnist", "gan_adversarial_training_cifar10_jpeg"]
)
def test_the_rows_of_a_run_and_their_tables(tmp_path, name):
    short = small(recipe(name), tmp_path)
    kept = {"gan", "l2l", "pgd", "source_pgd~2"}
    chosen = tuple(one for one in short.recipe.defences if one.display_name in kept)
    gone = {one.display_name for one in short.recipe.defences} - kept
    trials = tuple(
        trial
        for trial in short.recipe.trials
        if gone.isdisjoint(getattr(trial.attack, "trainings", ()))
    )
    run = replace(short, recipe=replace(short.recipe, defences=chosen, trials=trials))
    rows = run()
    by = {(row.method, row.attack, row.view) for row in rows}
    assert ("gan", "gan", "adaptive") in by  # its own generator
    assert ("l2l", "fgsm", "adaptive") in by
    if "mnist" in name:
        assert ("gan", "fgsm_from_source_pgd~2", "transferred") in by
        assert ("source_pgd~2", "pgd_from_source_pgd~2", "adaptive") in by

    cost = script("training_cost")
    costs = {
        training.display_name: cost.cost(run, training.display_name, training)
        for training in chosen
    }
    assert costs["pgd"]["passes"] == 3  # two steps of PGD, and the update
    assert costs["l2l"]["passes"] == 4  # its input, its update, and the update on two batches
    (tmp_path / "cost.json").write_text(json.dumps({0: costs}))
    (tmp_path / "results.json").write_text(json.dumps(results.to_json(rows)))
    transductive = script("transductive")
    transductive.IMAGES = rows[0].images
    found = transductive.accuracies(run.folder / "pgd")
    assert set(found) == {"frozen", "transductive"}
    assert found["frozen"]["clean"] == next(row.acc for row in rows if row.method == "pgd")
    tables = script("robust_training_tables")
    lines = tables.trainings(tables.Measured(tmp_path))
    assert any(line.startswith("| `gan`") for line in lines)
    assert not any("source" in line for line in lines[2:])
    parts = tables.ablation(tables.Measured(tmp_path))
    assert len(parts) == 2 + len(run.recipe.trainings)


@pytest.mark.parametrize("name", ["mnist_full", "svhn", "cifar10_jpeg_full"])
def test_the_recipes_with_the_numbers_of_the_paper(name):
    whole = recipe(f"gan_adversarial_training_{name}")
    gan, reward, *_ = [training.method for training in whole.defences]
    assert (gan.width, gan.gamma) == (64, 0.01)
    assert gan.generator_steps == (25 if name == "mnist_full" else 5)
    assert replace(gan, regulariser="reward") == reward != gan
    schedules = {
        (
            one.batch_size,
            one.steps - getattr(one.method, "static_steps", 0),
            one.method.decay_steps,
            one.method.lr,
        )
        for one in whole.defences
    }
    assert len(schedules) == 1


def test_the_rows_of_a_recipe_with_the_numbers_of_the_paper(tmp_path):
    rows = small(recipe("gan_adversarial_training_svhn"), tmp_path)()
    found = {row.method for row in rows}
    assert found == {"standard", "gan", "gan_reward", "pgd", "ensemble", "source_standard~2"}
    transferred = {row.method for row in rows if row.view == "transferred"}
    assert transferred == found - {"source_standard~2"}
