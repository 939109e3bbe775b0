"""The recipes of CycleAdvGAN on small artificial data, and the tables of their results."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.recipes import recipe, small
from fixtures.scripts import script
from spearshield.storage import checkpoint


def cells(lines):
    """The cells of a Markdown table, by the first cell of each line and by the head."""
    split = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    head, _, *rest = split
    return {first: dict(zip(head[1:], others, strict=True)) for first, *others in rest}


def rows_of(rows, method):
    return [row for row in rows if row.method == method]


def early_stop(row):
    return row.parameters["attack"]["early_stop"]


@pytest.mark.parametrize(
    ("name", "rounds"), [("cycle_adv_gan_mnist", True), ("cycle_adv_gan_cifar10_jpeg", False)]
)
def test_the_rows_of_a_run_and_their_tables(tmp_path, name, rounds):
    short = small(recipe(name), tmp_path)
    # The classifier must predict most labels correctly.
    longer = replace(short.recipe.pretraining, steps=150, batch_size=8)
    changed = replace(short.recipe, split="train", images=12, pretraining=longer, batch_size=12)
    run = replace(short, recipe=changed)
    rows = run.evaluate()
    assert rows_of(rows, "standard_training")[0].acc > 0.5
    trained = [training.display_name for training in run.recipe.defences]
    first = [training for training in trained if not training.startswith("round")]
    by = {(row.method, row.attack, row.view): row for row in rows}
    for victim in first:
        if victim.startswith("adv"):
            assert not any(method == victim for method, *_ in by)
            continue
        assert all((victim, attack, "oblivious") in by for attack in first)
        assert (victim, "pgd", "adaptive") in by
    assert (("cycle_pgd", "round_2", "adaptive") in by) == rounds
    assert (("round_2", "round_2", "oblivious") in by) == rounds

    tables = script("cycle_adv_gan_tables")
    found = tables.Found([run.folder])
    attacks, recovery, queried = (
        cells(make(found)) for make in (tables.attacks, tables.recovery, tables.black_boxes)
    )
    (plain,) = [
        row
        for row in rows_of(rows, "standard_training")
        if row.attack == "pgd" and row.threat == "Linf" and not early_stop(row)
    ]
    assert attacks["PGD-40"]["success"] == f"{100 * plain.asr:.1f}"
    fgsm = f"{100 * by['standard_training', 'fgsm', 'adaptive'].asr:.1f} (FGSM)"
    assert attacks["`cycle_fgsm`"]["success of the attack trained on"] == fgsm
    own = attacks["`cycle_fgsm`"]
    assert own["success on the same images"] == own["success"]  # in a short run, all images
    (path,) = (run.folder / "outcomes").glob("standard_training.cycle_fgsm.*")
    saved = checkpoint.load(path)
    right = [i for i in range(5) if saved["bare_clean"][i] == saved["y"][i]]
    flipped = [i for i in right if saved["bare_adv"][i] != saved["y"][i]]
    assert found.successes("cycle_fgsm", [5]) == pytest.approx([len(flipped) / len(right)])
    assert set(recovery) == {f"`{each}`" for each in trained if not each.startswith("adv")}
    for purifier, line in recovery.items():
        row = by[purifier.strip("`"), "fgsm", "oblivious"]
        starred = purifier in ("`cycle_fgsm`", "`cycle_black_box`")
        assert line["FGSM"] == f"{100 * row.robust_acc:.1f}" + "\\*" * starred
        assert line["clean"] == f"{100 * row.acc:.1f}"
    following = by.get(("cycle_pgd", "round_2", "adaptive"))
    expected = f"{100 * following.robust_acc:.1f}" if following else ""
    assert recovery["`cycle_pgd`"]["next round"] == expected
    assert set(queried) == {f"`{each}`" for each in trained if "black_box" in each}
