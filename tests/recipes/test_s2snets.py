"""The recipes of S2SNets on small artificial data, one after the other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.recipes import recipe, small
from fixtures.scripts import script
from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.methods.s2snets import S2SNets
from spearshield.threat import Linf

pytest.importorskip("skimage", reason="scikit-image is not installed")
pytest.importorskip("pywt", reason="PyWavelets is not installed")


LARGEST = {"s2snets_cifar10_jpeg": Linf(8 / 255), "s2snets_imagenet": Linf(4 / 255)}


def key(row):
    return row.method, row.attack, row.view


@pytest.mark.parametrize("name", LARGEST)
def test_the_second_stage_starts_from_the_first(name, tmp_path, monkeypatch):
    mnist = recipe("inverse_perturbation_mnist")
    same = {"data": mnist.data, "classifier": SmallCNN(), "weights": ""}
    same["pretraining"] = mnist.pretraining
    first = small(replace(recipe(f"{name}_structure"), **same), tmp_path / "first")
    (structure,) = first.recipe.defences
    stages = replace(structure.method, stages=2)
    first = replace(
        first, recipe=replace(first.recipe, defences=(replace(structure, method=stages),))
    )
    first()
    weights = str(first.folder / "structure" / "weights.safetensors")
    second = small(replace(recipe(name), **same), tmp_path / "second")
    kept = ("structure", "s2snets", "bit_depth", "jpeg", "image_quilting", "crop_rescale")
    defences = tuple(
        replace(one, method=replace(one.method, weights=weights, stages=2))
        if isinstance(one.method, S2SNets)
        else one
        for one in second.recipe.defences
        if one.display_name in kept
    )
    attacks = tuple(trial for trial in second.recipe.trials if trial.attack.threat == LARGEST[name])
    run = replace(second, recipe=replace(second.recipe, defences=defences, trials=attacks))
    rows = run()
    by = {key(row) for row in rows}
    for method in ("structure", "s2snets", "bit_depth"):
        assert {(method, "bim", "oblivious"), (method, "bim", "adaptive")} <= by
    assert ("jpeg", "pgd", "bpda(approximation)") in by
    assert ("image_quilting", "pgd", "bpda") in by
    assert any(method == "crop_rescale" and "eot" in view for method, _, view in by)

    tables = script("s2snets_tables")
    (bim,) = [row for row in rows if key(row) == ("s2snets", "bim", "oblivious")]
    cell = f"| `s2snets` | {100 * bim.robust_acc:.1f} |"
    assert cell in tables.view_tables(rows, "oblivious")
    assert "| `jpeg` |" in "\n".join(tables.clean_table(rows))

    gradients = script("gradient_statistics")
    monkeypatch.setattr(gradients, "IMAGES", 4)
    found = gradients.statistics(run.folder / "s2snets")
    assert 0 < found["bare: entropy"] <= 1 and -1 <= found["cosine similarity"] <= 1
