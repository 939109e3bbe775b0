"""The recipes of Defense-GAN, whole, on small made files and as short as can be."""

from __future__ import annotations

from dataclasses import replace

from short import recipe, small


def test_a_generator_and_all_that_is_measured_with_it(tmp_path):
    """Fashion-MNIST's are MNIST's on other data."""
    first = small(recipe("defense_gan_fashion_mnist_generator"), tmp_path)
    first()
    weights = tmp_path / "weights.safetensors"
    (first.folder / "defense_gan" / "weights.safetensors").rename(weights)
    whole = recipe("defense_gan_fashion_mnist")
    run = replace(small(whole, tmp_path, str(weights)), folder=tmp_path / "second")
    rows = run()
    victims = [name for name in run.recipe.trainings if "substitute" not in name]
    assert list(dict.fromkeys(row.method for row in rows)) == victims
    assert len(victims) == 7
    searching = ("orig", "rec", "fast")
    for victim in victims:
        met = {(row.attack, row.view) for row in rows if row.method == victim}
        learnt = [
            row for row in rows if row.method == victim and row.attack.startswith("substitute")
        ]
        assert len(learnt) == 2 and all(row.parameters["attack"]["queries"] == 6 for row in learnt)
        assert len({str(row.parameters["attack"]["training"]) for row in learnt}) == 2
        guarded = {
            ("pgd", "bpda"),
            ("orthogonal_pgd", "detector_aware"),
            ("fgsm", "oblivious"),
            ("carlini_wagner", "oblivious"),
        }
        assert (guarded <= met) == (victim in (*searching, "magnet"))
        generated = {("latent_search", "in_range"), ("pgd", "bpda(approximation)")}
        assert (generated <= met) == (victim in searching)
    detects = {row.method for row in rows if row.auc is not None}
    assert detects == {*searching, "magnet"}


def test_faces(tmp_path):
    faces = recipe("defense_gan_celeba")
    rows = small(replace(faces, data=replace(faces.data, validation=0)), tmp_path)()
    met = [(row.attack, row.view) for row in rows if row.method == "defense_gan"]
    assert ("latent_search", "in_range") in met and ("pgd", "adaptive") in met
    assert {row.images for row in rows} == {2}
