"""The recipes of inverse perturbations on small artificial data, and their tables."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fixtures.recipes import recipe, small
from fixtures.scripts import script
from spearshield.judging import results


def test_the_rows_of_a_run_and_their_tables(tmp_path, monkeypatch):
    short = small(recipe("inverse_perturbation_mnist"), tmp_path)
    kept = ("uap", "ip_gan", "grip_gan", "uipd", "ip_gan_joint")
    chosen = tuple(one for one in short.recipe.defences if one.display_name in kept)
    run = replace(short, recipe=replace(short.recipe, defences=chosen))
    rows = run()
    by = {(row.method, row.attack, row.view) for row in rows}
    assert {("ip_gan", attack, "oblivious") for attack in ("pgd", "deepfool", "uap")} <= by
    assert ("uipd", "pgd", "adaptive") in by and ("ip_gan_joint", "fgsm", "adaptive") in by

    (tmp_path / "results.json").write_text(json.dumps(results.to_json(rows)))
    tables = script("inverse_perturbation_tables")
    measured = tables.Measured(tmp_path)
    text = "\n".join(tables.published_table(measured))
    assert "98.04 / " in text and "98.04 / not measured" not in text
    assert "68.26 / not measured" in text  # no Defense-GAN in this run
    assert "| lenet | `uipd` |" in "\n".join(tables.attacks_table(measured))
    assert "| lenet | `ip_gan_joint` |" in "\n".join(tables.adaptive_table(measured))

    assert tables.features_table(measured) == []
    found = script("feature_distances").distances(run.folder)
    (tmp_path / "features.json").write_text(json.dumps({"lenet": found}))
    lines = tables.features_table(tables.Measured(tmp_path))
    own = found["ip_gan"]["adaptive"]["purified"]
    (line,) = [line for line in lines if "| `ip_gan` |" in line]
    assert line.endswith(f"| {own:.2f} |") and own > 0

    subtracted = script("subtracted_perturbation")
    monkeypatch.setattr(subtracted, "open_run", lambda folder: replace(run, selected="uipd"))
    monkeypatch.setattr(subtracted, "IMAGES", 3)
    found = subtracted.measured(tmp_path)
    assert found["PGD minus u, defended"] == pytest.approx(found["PGD, bare"])


@pytest.mark.parametrize(
    "name", ["inverse_perturbation_imagenet", "inverse_perturbation_mnist_ablation"]
)
def test_the_other_recipes_run(tmp_path, name):
    mnist = recipe("inverse_perturbation_mnist")
    same = {part: getattr(mnist, part) for part in ("data", "classifier", "pretraining", "weights")}
    short = small(replace(recipe(name), **same), tmp_path)
    defences = tuple(
        one for one in short.recipe.defences if one.display_name in ("uap", "ip_gan", "uipd")
    )
    rows = replace(short, recipe=replace(short.recipe, defences=defences))()
    assert {("ip_gan", "pgd"), ("ip_gan", "uap"), ("uipd", "pgd")} <= {
        (row.method, row.attack) for row in rows
    }
