"""The recipes of Defense-GAN on small artificial data, with few steps."""

from __future__ import annotations

from dataclasses import replace

from fixtures.recipes import recipe, small


def test_the_generator_and_the_rows_of_all_defences(tmp_path):
    """On Fashion-MNIST, whose recipes are MNIST's on other data."""
    first = small(recipe("defense_gan_fashion_mnist_generator"), tmp_path)
    first.train()
    weights = tmp_path / "weights.safetensors"
    (first.folder / "defense_gan" / "weights.safetensors").rename(weights)
    whole = recipe("defense_gan_fashion_mnist")
    run = replace(small(whole, tmp_path, str(weights)), folder=tmp_path / "second")
    rows = run.evaluate()
    victims = [name for name in run.recipe.trainings if "substitute" not in name]
    assert list(dict.fromkeys(row.method for row in rows)) == victims
    assert len(victims) == 7
    generating = ("orig", "rec", "fast")
    for victim in victims:
        own = {(row.attack, row.view) for row in rows if row.method == victim}
        transferred = [
            row for row in rows if row.method == victim and row.attack.startswith("substitute")
        ]
        assert [row.parameters["attack"]["queries"] for row in transferred] == [6, 6]
        assert len({str(row.parameters["attack"]["training"]) for row in transferred}) == 2
        purified = {
            ("pgd", "bpda"),
            ("orthogonal_pgd", "detector_aware"),
            ("fgsm", "oblivious"),
            ("carlini_wagner", "oblivious"),
        }
        assert (purified <= own) == (victim in (*generating, "magnet"))
        in_range = {("latent_search", "in_range"), ("pgd", "bpda(approximation)")}
        assert (in_range <= own) == (victim in generating)
    detects = {row.method for row in rows if row.auc is not None}
    assert detects == {*generating, "magnet"}


def test_celeba(tmp_path):
    celeba = recipe("defense_gan_celeba")
    rows = small(replace(celeba, data=replace(celeba.data, validation=0)), tmp_path)()
    own = [(row.attack, row.view) for row in rows if row.method == "defense_gan"]
    assert ("latent_search", "in_range") in own and ("pgd", "adaptive") in own
    assert {row.images for row in rows} == {2}
