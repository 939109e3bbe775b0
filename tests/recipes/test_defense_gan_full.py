"""The recipes of Defense-GAN at full width, on small artificial data, with few steps."""

from __future__ import annotations

from dataclasses import replace

from fixtures.recipes import recipe, small
from spearshield.methods.encoder_projection import EncoderProjection


def gan_of(training):
    method = training.method
    return method.gan if isinstance(method, EncoderProjection) else method


def test_the_defences_use_the_generator_of_the_other_recipe(tmp_path):
    first = small(recipe("defense_gan_mnist_generator_full"), tmp_path)
    first.train()
    weights = tmp_path / "weights.safetensors"
    (first.folder / "defense_gan" / "weights.safetensors").rename(weights)
    whole = small(recipe("defense_gan_mnist_full"), tmp_path, str(weights))
    rows = replace(whole, folder=tmp_path / "second").evaluate()
    assert list(dict.fromkeys(row.method for row in rows)) == [
        "standard_training",
        "orig",
        "rec",
        "fast",
    ]
    assert not any(row.attack.startswith("substitute") for row in rows)


def test_both_recipes_agree_on_the_networks_and_on_the_file():
    (training,) = recipe("defense_gan_mnist_generator_full").defences
    gans = [gan_of(training) for training in recipe("defense_gan_mnist_full").defences]
    assert {(gan.width, gan.latent) for gan in (gan_of(training), *gans)} == {(64, 128)}
    (path,) = {gan.weights for gan in gans}
    folder = f"runs/defense_gan_mnist_generator_full/{training.display_name}"
    assert path == f"{folder}/weights.safetensors"
