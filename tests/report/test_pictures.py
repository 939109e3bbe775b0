"""Pictures of attacked and purified images, and the files that are refused."""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from report.samples import (
    PGD,
    Page,
    draw,
    rows,
    run_folder,
    written,
)
from spearshield.report import write_report


def embedded(page: Page) -> list[Image.Image]:
    uris = [about["src"] or "" for tag, about in page.tags if tag == "img"]
    return [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]


def test_pictures_show_every_stage(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows(), eps=0.25, parameters=PGD)
    page, markdown = written(tmp_path, run)
    images = embedded(page)
    assert [image.size for image in images] == [(96, 96)] * 8
    clean, adversarial, perturbation, purified = (np.asarray(image) for image in images[1::2])
    assert np.unique(clean) == np.unique(purified) == [128]
    assert (adversarial[0, 0], adversarial[95, 95], adversarial[0, 95]) == (191, 64, 128)
    assert (perturbation[0, 0], perturbation[95, 95], perturbation[0, 95]) == (255, 0, 128)
    assert (adversarial[:24, :24] == 191).all()
    for line in (
        "| predicted, clean | \u2713 seven | \u2713 two |",
        "| undefended, adversarial | \u2713 seven | \u2717 five |",
        "| defended, purified | \u2713 seven | \u2717 one |",
    ):
        assert line in markdown
    assert "undefended \u2717wrong: five" in page.text
    assert "5 x PGD-40, EOT, 20 draws, L\u221e 0.25" in page.text
    (target,) = re.findall(r"!\[.*?\]\((\S+)\)", markdown)
    sheet = Image.open(tmp_path / "out" / unquote(target))
    assert sheet.size == (2 * 96 + 4, 4 * 96 + 3 * 4)
    assert [sheet.getpixel((100, y)) for y in (0, 100, 200, 300)] == [128, 191, 255, 128]


def test_a_purifier_has_a_picture_of_the_features(tmp_path: Path) -> None:
    plane = np.zeros((3, 2, 2), dtype=np.float32)
    plane[0, 1], plane[1, 1], plane[2, 1] = (10, 0), (10, 5), (5, 5)
    distances = np.array([[0.5, 0.7], [0.1, 0.2]], dtype=np.float32)
    run = run_folder(
        tmp_path / "run", rows(), feature_plane=plane, feature_distances=distances, eps=0.25
    )
    page, markdown = written(tmp_path, run)
    assert "adversarial 0.60, purified 0.15." in page.text
    assert "adversarial 0.60, purified 0.15." in markdown
    (target,) = re.findall(r"!\[features\]\((\S+)\)", markdown)
    drawn = np.asarray(Image.open(tmp_path / "out" / unquote(target)).convert("RGB")).astype(int)
    assert drawn.shape == (360, 360, 3)
    assert np.array_equal(np.asarray(embedded(page)[-1].convert("RGB")), drawn)
    red = (drawn[..., 0] > drawn[..., 2] + 60).nonzero()
    blue = (drawn[..., 2] > drawn[..., 0] + 60).nonzero()
    # Adversarial: bottom left, and right above the clean image. Purified: bottom left and middle.
    assert red[1].min() < 20 and red[1].max() > 340
    assert blue[1].min() < 20 and 175 < blue[1].max() < 190
    assert red[0].min() < 100 and red[0].max() > 260  # up is up


def test_in_l2_the_largest_change_is_the_full_range(tmp_path: Path) -> None:
    page, _ = written(tmp_path, run_folder(tmp_path / "run", rows(), threat="L2", eps=4.0))
    perturbation = np.asarray(embedded(page)[5])
    assert (perturbation[0, 0], perturbation[95, 95]) == (255, 0)


def test_without_a_purifier_there_is_no_purified_image(tmp_path: Path) -> None:
    x = np.zeros((2, 3, 120, 100), dtype=np.float32)
    x[:, 0] = 1
    stages = {"x": x, "x_adv": x, "x_hat": x, "victim_adv": ["seven", "rejected"]}
    page, markdown = written(tmp_path, run_folder(tmp_path / "run", rows(), **stages, eps=0.3))
    images = embedded(page)
    assert [image.size for image in images] == [(100, 120)] * 6
    assert images[0].getpixel((0, 0)) == (255, 0, 0)
    assert images[4].getpixel((0, 0)) == (128, 128, 128)
    assert "purified" not in markdown.partition("## Pictures")[2].partition("## Provenance")[0]
    assert "| defended, adversarial | \u2713 seven | \u2713 rejected |" in markdown


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"feature_plane": np.zeros((3, 2, 2), np.float32)}, "does not contain tensor"),
        (
            {
                "feature_plane": np.zeros((3, 2, 2), np.float32),
                "feature_distances": np.zeros((2, 3), np.float32),
            },
            "the features have shapes",
        ),
        (
            {
                "feature_plane": np.full((3, 2, 2), np.nan, np.float32),
                "feature_distances": np.zeros((2, 2), np.float32),
            },
            "the features are not finite",
        ),
        ({"x_hat": None}, "x_hat"),
        ({"x_adv": np.zeros((3, 1, 4, 4), np.float32)}, "x_adv is"),
        ({"x_adv": np.full((2, 1, 4, 4), np.nan, np.float32)}, "x_adv has pixels outside"),
        ({"x": np.zeros((2, 1, 4, 4), np.float64)}, "float64"),
        ({"x": np.zeros((4, 4), np.float32)}, "shape"),
        ({"truth": ["seven"]}, "truth has 1 names for 2 images"),
        ({"eps": 0.0}, "threat model"),
        ({"eps": float("inf")}, "Infinity is not a number"),
        ({"threat": ""}, "threat model"),
        ({"eps": "wide"}, "wide"),
    ],
)
def test_a_damaged_picture_is_named(tmp_path: Path, fault: dict[str, Any], reason: str) -> None:
    run = run_folder(tmp_path / "run", rows(), **fault)
    with pytest.raises(ValueError, match=r"0a1b2c3d\.safetensors is truncated or") as error:
        write_report([run], tmp_path / "out")
    assert reason in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", rows(), eps=0.3)
    (path,) = (run / "pictures").iterdir()
    whole = path.read_bytes()
    for length in (0, 5, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=r"0a1b2c3d\.safetensors is truncated or not a picture"
        ):
            write_report([run], tmp_path / "out")


def test_a_page_without_room_links_to_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_folder(tmp_path / "run", [*rows(), *rows(method="dae")])
    for name, method in (("a", "ape_gan"), ("b", "ape_gan"), ("c", "dae"), ("d", "dae")):
        draw(run / "pictures" / f"{name}.safetensors", method=method)
    assert len(embedded(written(tmp_path, run)[0])) == 4 * 8
    two = 2 * (2 * 4 * 4 * 4)
    monkeypatch.setattr(sys.modules["spearshield.report.document"], "MOST_PIXELS", two)
    page, markdown = written(tmp_path, run)
    assert len(embedded(page)) == 2 * 8
    targets = [about.get("href") or "" for tag, about in page.tags if tag == "a"]
    assert [target for target in targets if target.endswith(".png")] == [
        "pictures/b.png",
        "pictures/d.png",
    ]
    assert "1 picture as files" in page.text
    assert (tmp_path / "out" / "pictures" / "d.png").exists()
    assert len(re.findall(r"!\[", markdown)) == 4
