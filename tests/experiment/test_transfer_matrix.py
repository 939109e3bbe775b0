"""The transfer matrix through the front door: forms of input, folders, pages and errors."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import spearshield as ss
from spearshield import api
from spearshield.attacks.square import Square
from spearshield.cli.main import main
from spearshield.rng import ambient

THREAT = ss.Linf(0.2)


@pytest.fixture
def setup():
    with ambient(0):
        a, b = (nn.Sequential(nn.Flatten(), nn.Linear(16, 3)) for _ in range(2))
        x = torch.rand(12, 1, 4, 4)
    return {"first": a, "second": b}, x, a(x).argmax(1)


def test_a_matrix_prints_and_saves_a_page(setup, tmp_path):
    classifiers, x, y = setup
    matrix = ss.transfer_matrix(classifiers, x, y, threat=THREAT, progress=False)
    said = str(matrix)
    assert "fgsm, Linf 0.2: attack success rate in percent, 12 images" in said
    assert len(matrix.statements) == 2 and all(one in said for one in matrix.statements)
    page = matrix.save(tmp_path / "out").read_text()
    assert page.count('class="heat"') == 4 and "heat-10" in page and "<style>" in page
    told = (tmp_path / "out" / "transfer.md").read_text()
    assert "| first |" in told
    # The page is made again from the numbers alone.
    assert main(["report", str(tmp_path / "out"), "--out", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "transfer.html").read_text() == page


def test_named_attacks_do_not_stop_early(setup):
    classifiers, x, y = setup
    matrix = ss.transfer_matrix(classifiers, x, y, attacks="pgd", threat=THREAT, progress=False)
    assert matrix.record["attack_settings"][0]["settings"]["early_stop"] is False


def test_modes_are_restored_and_the_folder_resumes(setup, tmp_path):
    classifiers, x, y = setup
    classifiers["first"].train()
    arguments = {"threat": THREAT, "folder": tmp_path, "progress": False}
    first = ss.transfer_matrix(classifiers, x, y, **arguments)
    assert classifiers["first"].training
    again = ss.transfer_matrix(classifiers, x, y, **arguments)
    assert torch.equal(first.measured.attacked, again.measured.attacked)
    with pytest.raises(ValueError, match="another transfer matrix"):
        ss.transfer_matrix(classifiers, x, y, attacks="fgsm", **arguments)


def test_another_matrix_is_not_written_over(setup, tmp_path):
    classifiers, x, y = setup
    ss.transfer_matrix(classifiers, x, y, threat=THREAT, progress=False).save(tmp_path)
    other = ss.transfer_matrix(classifiers, x, y, attacks="fgsm", threat=THREAT, progress=False)
    with pytest.raises(ValueError, match="holds another transfer matrix"):
        other.save(tmp_path)
    with pytest.raises(ValueError, match="holds a transfer matrix"):
        ss.audit(classifiers["first"], x, y, threat=THREAT, folder=tmp_path, progress=False)


def test_a_folder_with_another_page_is_refused_before_the_attacks(setup, tmp_path, monkeypatch):
    """Such as the same classifiers in another order, or a page that cannot be read."""
    classifiers, x, y = setup
    arguments = {"threat": THREAT, "folder": tmp_path, "progress": False}
    ss.transfer_matrix(classifiers, x, y, **arguments).save(tmp_path)
    ss.transfer_matrix(classifiers, x, y, **arguments).save(tmp_path)
    monkeypatch.setattr(api, "transferability", None)
    other = dict(reversed(classifiers.items()))
    with pytest.raises(ValueError, match=r"another transfer matrix \(other classifiers, weights_d"):
        ss.transfer_matrix(other, x, y, **arguments)
    for content, message in (("{", "choose another folder"), ("[1]", "another transfer matrix")):
        (tmp_path / "transfer.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            ss.transfer_matrix(classifiers, x, y, **arguments)


def wider(classifiers):
    return {**classifiers, "second": nn.Sequential(nn.Flatten(), nn.Linear(16, 4))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"first": c["first"]}, "give 2 to 20 classifiers by name"),
        (lambda c: {"a/b": c["first"], "c": c["second"]}, "must be a word, got 'a/b'"),
        (
            lambda c: {"a" * 101: c["first"], "c": c["second"]},
            "has 101 bytes ('aaaaaaaaaaaaaaaaaaaa'...); give one of at most 100",
        ),
        (wider, "different numbers of classes: {'first': 3, 'second': 4}"),
    ],
)
def test_unusable_classifiers_raise(setup, change, message):
    classifiers, x, y = setup
    with pytest.raises(ValueError) as error:
        ss.transfer_matrix(change(classifiers), x, y, threat=THREAT, progress=False)
    assert message in str(error.value)


class Cut(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).detach()


def test_attacks_on_a_classifier_without_a_gradient_are_refused_at_the_start(setup, tmp_path):
    """Attacks without gradients work on it."""
    classifiers, x, y = setup
    cut = {"first": classifiers["first"], "cut": Cut(classifiers["second"])}
    arguments = {"threat": THREAT, "folder": tmp_path / "out", "progress": False}
    with pytest.raises(ValueError, match="^cut passes no gradient .*fgsm needs one; leave it out"):
        ss.transfer_matrix(cut, x, y, **arguments)
    assert not (tmp_path / "out").exists()
    square = Square(THREAT, queries=5)
    assert ss.transfer_matrix(cut, x, y, attacks=square, **arguments).record["images"] == 12


def test_unusable_attacks_raise(setup):
    classifiers, x, y = setup
    for attacks, message in (((), "got none"), (("fgsm", "fgsm"), "got fgsm, fgsm")):
        with pytest.raises(ValueError, match=message):
            ss.transfer_matrix(classifiers, x, y, attacks=attacks, progress=False)


def test_a_report_takes_a_matrix_alone(setup, tmp_path, capsys):
    classifiers, x, y = setup
    matrix = ss.transfer_matrix(classifiers, x, y, threat=THREAT, progress=False)
    for name in ("a", "b"):
        matrix.save(tmp_path / name)
    run = tmp_path / "run"
    for sources in ((tmp_path / "a", tmp_path / "b"), (run, tmp_path / "a" / "transfer.json")):
        assert main(["report", *map(str, sources), "--out", str(tmp_path / "page")]) == 2
        assert "holds a transfer matrix; report it alone" in capsys.readouterr().err


def test_a_file_that_is_no_matrix_is_refused(tmp_path, capsys):
    for content in ({}, {"classifiers": ["a"], "statements": 3}):
        (tmp_path / "transfer.json").write_text(json.dumps(content))
        assert main(["report", str(tmp_path), "--out", str(tmp_path / "page")]) == 2
        assert "is not a transfer matrix" in capsys.readouterr().err


def test_the_command(tmp_path, capsys):
    """Two trained weights of one architecture, and the saved predictions of a second call."""
    from safetensors.torch import save_file

    from spearshield.classifiers.m_cnn import MCNN

    words = []
    for seed in (0, 1):
        with ambient(seed):
            network = MCNN().build((1, 8, 8), 10)
        save_file(network.state_dict(), tmp_path / f"{seed}.safetensors")
        words.append(f"m_cnn={tmp_path / f'{seed}.safetensors'}")
    options = ["--data", "digits", "--images", "5", "--attack", "fgsm", "--eps", "0.1"]
    out = ["--out", str(tmp_path / "out")]
    assert main(["transfer", *words, *options, *out]) == 0
    said = capsys.readouterr().out
    assert "fgsm, Linf 0.1: attack success rate in percent, 5 images" in said
    assert "transfer.html" in said and "m_cnn_0" in said
    assert main(["transfer", words[0], words[0], *options, *out]) == 2
    assert "two models are called m_cnn_0" in capsys.readouterr().err
    assert main(["transfer", *words, "--eps", "0.1", *out]) == 2
    assert "--data is missing" in capsys.readouterr().err
    pgd = ["--data=digits", "--images=5", "--attack=pgd", "--eps=0.1", "--set=attack.steps=3"]
    assert main(["transfer", *words, *pgd, f"--out={tmp_path / 'steps'}"]) == 0
    assert '"steps": 3' in (tmp_path / "steps" / "transfer.json").read_text()
    assert main(["transfer", *words, *pgd[:4], "--set=attack.stps=3", *out]) == 2
    assert "no field 'stps' in PGD" in capsys.readouterr().err
