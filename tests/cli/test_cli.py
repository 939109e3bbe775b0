"""The command line as a person meets it: every command, and every mistake in one line."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from spearshield.classifiers import architecture
from spearshield.cli import main
from spearshield.experiment.opened import open_run
from spearshield.storage.weights import save_weights

SMALL = (
    "--set=pretraining.steps=60",
    "--set=defences.0.steps=3",
    "--set=defences.ape_gan.method.width=4",
    "--set=images=30",
    "--set=trials.3.attack.steps=2",
    "--set=trials.4.attack.steps=2",
    "--device=cpu",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of the quickstart, made small."""
    out = tmp_path_factory.mktemp("cli") / "quick"
    assert main(["run", "quickstart", f"--out={out}", *SMALL]) == 0
    return out


def fails(capsys, status: int, *arguments: object) -> str:
    """The one line on stderr of a command that fails."""
    try:
        ended = main([str(a) for a in arguments])
    except SystemExit as stop:  # the parser's own
        ended = int(stop.code or 0)
    assert ended == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "\n".join(lines)
    assert lines[-1].startswith("spearshield ")
    return lines[-1]


@pytest.mark.parametrize("words", [["run", "--help"], ["list"], ["show", "defense_gan"]])
def test_it_answers_without_torch_in_a_third_of_a_second(words):
    """The command takes at most 0.3 s of processor time more than an empty program."""
    code = f"import sys; from spearshield.cli import main\ntry: main({words})\nfinally: "
    code += "assert not {'torch', 'numpy', 'rich'} & set(sys.modules)"

    def cost(program: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
        after = os.times()
        return after.children_user + after.children_system - sum(before[2:4])

    assert min(cost(code) for _ in range(3)) < 0.3 + min(cost("pass") for _ in range(3))


def test_list_names_everything(capsys):
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"methods", "attacks", "classifiers", "datasets", "recipes"} == found.keys()
    assert "ape_gan" in found["methods"] and "digits" in found["datasets"]
    assert all(line for names in found.values() for line in names.values())
    assert main(["list", "attacks"]) == 0
    assert "pgd" in capsys.readouterr().out


def test_show_gives_paper_settings_and_bibtex(capsys):
    assert main(["show", "ape_gan"]) == 0
    text = capsys.readouterr().out
    assert "https://arxiv.org/abs/1707.05474" in text
    assert "mse_weight" in text and "0.9" in text and "@misc{ape_gan2017" in text


def test_show_works_for_every_name(capsys):
    main(["list", "--json"])
    for names in json.loads(capsys.readouterr().out).values():
        for name in names:
            assert main(["show", name]) == 0, name


def test_run_writes_a_report_and_runs_again(folder, capsys):
    assert (folder / "report.html").exists() and (folder / "results.json").exists()
    assert main(["run", "quickstart", f"--out={folder}", *SMALL]) == 0
    assert "worst case" in capsys.readouterr().out


def test_dry_run_prints_the_recipe_and_does_nothing(tmp_path, capsys):
    out = tmp_path / "dry"
    assert main(["run", "quickstart", f"--out={out}", "--dry-run", "--seed=9"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 9
    assert not out.exists()


def test_train_leaves_weights(tmp_path, capsys):
    assert main(["train", "quickstart", f"--out={tmp_path / 't'}", *SMALL]) == 0
    assert (tmp_path / "t" / "ape_gan" / "weights.safetensors").exists()
    assert not (tmp_path / "t" / "results.json").exists()


@pytest.mark.parametrize("form", ["safetensors", "npz"])
def test_attack_writes_floats_and_pngs_that_are_worth_what_it_says(folder, tmp_path, capsys, form):
    out = tmp_path / "set"
    arguments = ["attack", f"{folder}/ape_gan", "--attack=fgsm", "--eps=0.2", f"--out={out}"]
    assert main([*arguments, f"--format={form}", "--images=12", "--device=cpu"]) == 0
    said = capsys.readouterr().out
    assert "float32" in said and "8-bit PNG" in said
    assert len(list((out / "png").iterdir())) == 12
    record = json.loads((out / "set.json").read_text())
    worth = record["scores"]
    assert worth["float32"]["linf"] <= 0.2 + 1e-6 and worth["float32"]["outside"] == 0
    assert abs(worth["8-bit PNG"]["linf"] - 0.2) < 1e-6  # 51 of 255 levels
    assert worth["8-bit PNG"]["outside"] == 0
    assert f"{out} exists already" in fails(capsys, 2, *arguments)


def test_audit_a_trained_method_under_another_attack(folder, tmp_path, capsys):
    out = tmp_path / "judged"
    arguments = ["audit", f"{folder}/ape_gan", "--attack=mi_fgsm", "--set=attack.steps=2"]
    assert main([*arguments, "--view=bpda", f"--out={out}", "--images=10", "--device=cpu"]) == 0
    rows = json.loads((out / "results.json").read_text())
    assert [(r["attack"], r["view"], r["images"]) for r in rows] == [
        ("mi_fgsm", "bpda", 10),
        ("worst_case", "worst_case", 10),
    ]


def test_a_battery_judges_and_the_gate_has_its_own_status(folder, tmp_path, capsys):
    out = tmp_path / "judged"
    quick = ["audit", f"{folder}/ape_gan", "--effort=quick", "--images=12", f"--out={out}"]
    quick += ["--eps=0.2", "--device=cpu", f"--transfer-from={folder}/standard_training"]
    assert main(quick) == 0
    said = capsys.readouterr().out
    rows = json.loads((out / "results.json").read_text())
    assert {row["view"] for row in rows} >= {"oblivious", "adaptive", "bpda"}
    assert {row["attack"] for row in rows} >= {"apgd_ce", "square", "transfer"}
    assert f"ape_gan, Linf 0.2: {100 * rows[-1]['robust_acc']:.1f} % robust" in said
    assert f"), {rows[-1]['verdict']}\n" in said
    assert main([*quick, "--min-robust-acc=0.99"]) == 3
    assert "is below 99.00%" in capsys.readouterr().out
    assert main([*quick, "--min-robust-acc=0"]) == 0
    oblivious = ["audit", f"{folder}/ape_gan", "--attack=fgsm", "--view=oblivious", "--eps=0.01"]
    oblivious += [f"--out={tmp_path}/oblivious", "--images=12", "--device=cpu"]
    assert main([*oblivious, "--require-valid"]) == 3
    assert "not examined; audit with a battery" in capsys.readouterr().out


def test_a_learned_attack_is_named_by_its_folder(folder, tmp_path, capsys):
    learn = ["train", "quickstart", "--set=pretraining.steps=2", "--set=defences.0.steps=2"]
    learn += ["--set=defences.0.method=uap", "--set=defences.0.method.threat.eps=0.2"]
    assert main([*learn, f"--out={tmp_path}/run", "--device=cpu"]) == 0
    judge = ["audit", f"{folder}/ape_gan", f"--attack={tmp_path}/run/uap", "--images=12"]
    assert main([*judge, f"--out={tmp_path}/out", "--device=cpu"]) == 0
    (row, _) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (row["attack"], row["eps"], row["view"]) == ("uap", 0.2, "transferred")
    training = row["parameters"]["attack"]["training"]
    assert training["steps"] * training["batch_size"] == 128
    none = [f"--attack={folder}/ape_gan", f"--out={tmp_path}/none"]
    assert "trains no attack" in fails(capsys, 2, "audit", f"{folder}/ape_gan", *none)
    for wrong, said in {
        "--view=adaptive": "its view is transferred",
        "--eps=0.1": "trained for Linf 0.2, not for Linf 0.1",
        "--attack=runs/typo/uap": "no runs/typo/recipe.json",
    }.items():
        assert said in fails(capsys, 2, *judge, wrong, f"--out={tmp_path}/none", "--device=cpu")


def test_the_view_of_a_trained_attack_follows_from_the_model_it_was_trained_on(
    tmp_path, monkeypatch
):
    run = tmp_path / "run"
    learn = ["train", "quickstart", "--set=pretraining.steps=2", "--set=defences.0.steps=2"]
    learn += ["--set=defences.0.method=cycle_adv_gan", "--set=defences.0.method.width=2"]
    assert main([*learn, f"--out={run}", "--set=defences.0.batch_size=8", "--device=cpu"]) == 0
    for victim, view in {"standard_training": "adaptive", "cycle_adv_gan": "oblivious"}.items():
        out = tmp_path / victim
        judge = ["audit", f"{run}/{victim}", f"--attack={run}/cycle_adv_gan", "--images=4"]
        assert main([*judge, f"--out={out}", "--device=cpu"]) == 0
        (row, _) = json.loads((out / "results.json").read_text())
        assert (row["method"], row["view"]) == (victim, view)
    monkeypatch.chdir(run)  # where a folder is one name, as an attack is
    judge = ["audit", "cycle_adv_gan", "--attack=fgsm", "--attack=cycle_adv_gan", "--eps=0.3"]
    assert main([*judge, "--images=4", f"--out={tmp_path}/both", "--device=cpu"]) == 0
    rows = json.loads((tmp_path / "both" / "results.json").read_text())
    assert [(row["attack"], row["view"]) for row in rows[:-1]] == [
        ("fgsm", "oblivious"),
        ("fgsm", "adaptive"),
        ("fgsm", "bpda"),
        ("cycle_adv_gan", "oblivious"),
    ]


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 8, 8)])
def test_a_trained_attack_refuses_images_of_another_shape(folder, tmp_path, capsys, shape):
    learn = ["train", "quickstart", "--set=pretraining.steps=2", "--set=defences.0.steps=2"]
    learn += ["--set=defences.0.method=uap", f"--out={tmp_path}/run", "--device=cpu"]
    assert main(learn) == 0
    np.savez(tmp_path / "x.npz", x=np.zeros((2, *shape), np.float32), y=np.array([0, 9]))
    save_weights(architecture("m_cnn").build(shape, 10), tmp_path / "w.safetensors")
    judge = ["audit", "--classifier=m_cnn", f"--data={tmp_path}/x.npz", f"--out={tmp_path}/no"]
    judge += [f"--weights={tmp_path}/w.safetensors"]
    line = fails(capsys, 2, *judge, f"--attack={tmp_path}/run/uap", "--device=cpu")
    assert "was trained on images of shape (1, 8, 8)" in line and str(shape) in line


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A user's own classifier in a module of their own, with weights, and images in an npz."""
    (tmp_path / "my_model.py").write_text(
        "import torch\n"
        "def build():\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))\n"
        "def probabilities():\n"
        "    return torch.nn.Sequential(*build(), torch.nn.Softmax(1))\n"
        "def loaded():\n"
        "    return torch.load(__file__.replace('my_model.py', 'whole.pt'), weights_only=False)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_model", raising=False)  # of an earlier test
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    save_weights(network, tmp_path / "w.safetensors")
    torch.save(network, tmp_path / "whole.pt")
    x = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x=x, y=np.arange(20) % 3)
    return tmp_path


def test_audit_a_users_own_classifier(own, capsys):
    arguments = ["audit", "--classifier=my_model:build", f"--weights={own}/w.safetensors"]
    arguments += [f"--data={own}/images.npz", "--attack=fgsm", "--eps=0.1", f"--out={own}/out"]
    assert main(arguments) == 0
    (row, _) = json.loads((own / "out" / "results.json").read_text())
    assert row["method"] == "undefended" and row["images"] == 20
    assert row["classifier"] == "my_model:build" and row["data"] == "images"


def test_the_batch_size_limits_the_images_of_an_attack_and_changes_no_row(own, monkeypatch):
    def flatten(_, x):
        sizes.extend([len(x)] if x.requires_grad else [])
        return x.flatten(1)

    monkeypatch.setattr(torch.nn.Flatten, "forward", flatten)
    arguments = ["audit", "--classifier=my_model:build", f"--weights={own}/w.safetensors"]
    arguments += [f"--data={own}/images.npz", "--attack=pgd", "--eps=0.1", "--device=cpu"]
    found, largest = [], []
    for name, words in (("all", []), ("one", ["--batch-size=1"])):
        sizes: list[int] = []
        assert main([*arguments, *words, f"--out={own}/{name}"]) == 0
        found.append(json.loads((own / name / "results.json").read_text())[0]["robust_acc"])
        largest.append(max(sizes))
    assert found[0] == found[1] and largest[1] == 1 < largest[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--classifier=my_model:probabilities"], "returns probabilities"),
        (["--classifier=my_model:missing"], "missing"),
        (["--classifier=no_such_module:build"], "no_such_module"),
        (["--classifier=lnet"], "lenet"),
        (["--weights={own}/none.safetensors"], "none.safetensors"),
        (["--data={own}/none.npz"], "none.npz"),
        (["--attack=pdg"], "no attack 'pdg'"),
        (["--set=attack.setps=3"], "no field 'setps' in FGSM"),
        (["--set=nonsense"], "FIELD.SUB=VALUE"),
        (["--view=white"], "no view 'white'"),
    ],
)
def test_a_mistake_in_audit_is_one_line(own, capsys, changes, said):
    base = {
        "--classifier": "my_model:build",
        "--weights": f"{own}/w.safetensors",
        "--data": f"{own}/images.npz",
        "--attack": "fgsm",
        "--eps": "0.1",
        "--out": f"{own}/out",
    }
    base |= dict(c.format(own=own).partition("=")[::2] for c in changes)
    assert said in fails(
        capsys,
        2,
        "audit",
        *(f"{k}={v}" for k, v in base.items()),
    )
    assert not (own / "out" / "results.json").exists()


def test_a_classifier_with_the_wrong_number_of_classes(own, capsys):
    with np.load(own / "images.npz") as file:
        np.savez(own / "five.npz", x=file["x"], y=np.arange(20) % 5)
    line = fails(
        capsys, 2, "audit", "--classifier=my_model:loaded", f"--data={own}/five.npz",
        "--attack=fgsm", "--eps=0.1", f"--out={own}/out",
    )  # fmt: skip
    assert "label 4 is out of range: the model has 3 classes" in line


def test_images_outside_the_unit_interval(own, capsys):
    np.savez(own / "big.npz", x=np.full((4, 8, 8), 255.0, np.float32), y=np.arange(4) % 3)
    line = fails(
        capsys, 2, "audit", "--classifier=my_model:loaded", f"--data={own}/big.npz",
        "--attack=fgsm", "--eps=0.1", f"--out={own}/out",
    )  # fmt: skip
    assert "big.npz" in line and "[0, 1]" in line


def test_unknown_names_list_the_right_ones(capsys):
    assert "quickstart" in fails(capsys, 2, "run", "quickstrat")
    assert "ape_gan" in fails(capsys, 2, "show", "ape_gun")
    assert "there are seed" in fails(capsys, 2, "run", "quickstart", "--set=sed=1")


def test_what_argparse_refuses_exits_two(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run"])
    assert stop.value.code == 2


def test_purify_a_folder_and_an_npz(folder, tmp_path, capsys):
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(source / "a.png")
    Image.fromarray(pixels).save(source / "deep" / "b.png")
    victim = f"{folder}/ape_gan"
    assert main(["purify", victim, str(source), str(tmp_path / "out"), "--device=cpu"]) == 0
    with Image.open(tmp_path / "out" / "deep" / "b.png") as image:
        shown = np.asarray(image)
    assert shown.shape == (8, 8) and shown.dtype == np.uint8

    np.savez(tmp_path / "in.npz", x=pixels[None], y=np.array([3]))
    assert main(["purify", victim, f"{tmp_path}/in.npz", f"{tmp_path}/out.npz"]) == 0
    with np.load(tmp_path / "out.npz") as back:
        assert back["x"].shape == (1, 8, 8) and back["x"].dtype == np.uint8
        assert back["y"].tolist() == [3]
        assert np.array_equal(back["x"][0], shown)


def test_a_learned_attack_perturbs_a_folder_without_victim_or_labels(tmp_path, capsys):
    learn = ["train", "quickstart", "--set=pretraining.steps=2", "--set=defences.0.steps=2"]
    learn += ["--set=defences.0.method=cycle_adv_gan", "--set=defences.0.method.width=2"]
    learn += ["--set=defences.0.batch_size=8", "--set=defences.0.precompute=true"]
    assert main([*learn, f"--out={tmp_path}/run", "--device=cpu"]) == 0
    made, source = f"{tmp_path}/run/cycle_adv_gan", tmp_path / "in"
    source.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(source / f"{i}.png")
    perturb = ["attack", f"--attack={made}", "--device=cpu"]
    assert main([*perturb, f"--data={source}", f"--out={tmp_path}/out"]) == 0
    assert "2 images perturbed into" in capsys.readouterr().out
    for i, image in enumerate(pixels):
        with Image.open(tmp_path / "out" / f"{i}.png") as shown:
            away = np.abs(np.asarray(shown).astype(int) - image)
        assert 0 < away.max() <= 76  # below 0.3 of 255
    assert main([*perturb, f"--data={source}", "--size=8x8", f"--out={tmp_path}/resized"]) == 0
    assert main(["purify", made, str(tmp_path / "out"), f"{tmp_path}/back", "--device=cpu"]) == 0
    assert "give a model" in fails(capsys, 2, "attack", "--data=x", f"--out={tmp_path}/no")
    alone = [*perturb[:1], f"--attack={tmp_path}/run/standard_training", f"--data={source}"]
    assert "trains no attack" in fails(capsys, 2, *alone, f"--out={tmp_path}/no")
    perturb += [f"--data={source}", f"--out={tmp_path}/no"]
    for useless in ("--images=2", "--seed=4", "--view=bpda", "--format=npz", "--set=threat.eps=1"):
        said = fails(capsys, 2, *perturb, useless)
        assert f"no use for {useless.partition('=')[0]}" in said
    assert "trained for Linf 0.3" in fails(capsys, 2, *perturb, "--eps=0.05")
    assert not (tmp_path / "no").exists()


def test_an_attack_needs_nothing_of_its_run_but_its_own_training(tmp_path, monkeypatch, capsys):
    learn = ["train", "quickstart", "--set=pretraining.steps=2", "--set=defences.0.steps=2"]
    learn += ["--set=defences.0.method=adv_gan", "--set=defences.0.method.width=2"]
    run, shipped = tmp_path / "run", tmp_path / "shipped"
    assert main([*learn, f"--out={run}", "--device=cpu"]) == 0
    assert f"weights: {run}/adv_gan/attack.safetensors" in capsys.readouterr().out.replace("\n", "")
    (shipped / "adv_gan").mkdir(parents=True)
    for name in ("recipe.json", "adv_gan/checkpoint.safetensors"):
        shutil.copy(run / name, shipped / name)
    monkeypatch.setattr("spearshield.datasets.digits.Digits.read", None)
    monkeypatch.setattr("spearshield.training.loop.fit", None)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=pixels)
    for made in (run, shipped):
        perturb = ["attack", f"--attack={made}/adv_gan", f"--data={tmp_path}/x.npz"]
        assert main([*perturb, f"--out={tmp_path}/{made.name}.npz", "--device=cpu"]) == 0
    with np.load(tmp_path / "run.npz") as mine, np.load(tmp_path / "shipped.npz") as theirs:
        assert np.array_equal(mine["x"], theirs["x"]) and not np.array_equal(mine["x"], pixels)
    kept = load_file(run / "adv_gan" / "attack.safetensors")
    attack = open_run(run).attack("adv_gan")
    assert kept.keys() == attack.network.state_dict().keys()


@pytest.mark.parametrize("command", ["attack", "audit", "purify"])
def test_what_is_not_trained_is_not_trained_on_the_way(tmp_path, capsys, command):
    learn = ["train", "quickstart", "--set=pretraining.steps=2", "--set=defences.0.steps=2"]
    learn += ["--set=defences.0.method=cycle_adv_gan", "--set=defences.0.method.width=2"]
    assert main([*learn, f"--out={tmp_path}/run", "--device=cpu"]) == 0
    (tmp_path / "run" / "cycle_adv_gan" / "checkpoint.safetensors").unlink()
    made, source = f"{tmp_path}/run/cycle_adv_gan", f"{tmp_path}/x.npz"
    np.savez(source, x=np.zeros((1, 8, 8), np.uint8))
    words = {
        "attack": ["attack", f"--attack={made}", f"--data={source}", f"--out={tmp_path}/out"],
        "audit": ["audit", made, "--attack=fgsm", "--eps=0.1", f"--out={tmp_path}/out"],
        "purify": ["purify", made, source, f"{tmp_path}/out"],
    }[command]
    error = fails(capsys, 2, *words, "--device=cpu")
    assert "has taken 0 of 2 steps" in error
    assert "copy its checkpoint.safetensors too if it was trained elsewhere" in error


def test_a_folder_is_perturbed_whole_or_not_at_all(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("spearshield.cli.file_tools.BATCH", 2)
    learn = ["train", "quickstart", "--set=pretraining.steps=2", "--set=defences.0.steps=2"]
    learn += ["--set=defences.0.method=uap", f"--out={tmp_path}/run", "--device=cpu"]
    assert main(learn) == 0
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for i in range(4):
        Image.new("L", (8, 8)).save(source / f"{i}.png")
    Image.new("L", (9, 8)).save(source / "9.png")
    perturb = ["attack", f"--attack={tmp_path}/run/uap", f"--data={source}", f"--out={out}"]
    said = fails(capsys, 2, *perturb, "--device=cpu")
    assert "9.png has 9 x 8 pixels; this attack was trained on 8 x 8" in said
    (source / "9.png").unlink()
    Image.new("L", (8, 8)).save(source / "3.jpg")
    assert "would both become 3.png" in fails(capsys, 2, *perturb, "--device=cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "run"]
    (source / "3.jpg").unlink()
    assert main([*perturb, "--device=cpu"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [f"{i}.png" for i in range(4)]
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 8, 8), np.uint8))
    perturb[2:] = [f"--data={tmp_path}/none.npz", f"--out={tmp_path}/none_out.npz"]
    assert "x: images have shape (0, 8, 8)" in fails(capsys, 2, *perturb, "--device=cpu")


def test_a_training_that_must_fail_fails_before_anything_is_trained_or_written(tmp_path, capsys):
    black_box = ["--set=defences.0.method=cycle_adv_gan", "--set=defences.0.precompute=true"]
    for wrong, said in {
        "--set=defences.0.method.target=12": "target must be a class from 0 to 9",
        "--set=defences.0.trained_on=nobody": "needs 'nobody', which is not an earlier defence",
        "--set=defences.0.method.student=m_cnn": "set precompute=false",
    }.items():
        learn = ["train", "quickstart", f"--out={tmp_path}/run", "--device=cpu", *black_box, wrong]
        assert said in fails(capsys, 2, *learn)
        assert not (tmp_path / "run").exists()


def test_purify_needs_no_data_set(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("spearshield.datasets.digits.Digits.read", None)
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 8, 8), np.uint8))
    out = f"{tmp_path}/out.npz"
    assert main(["purify", f"{folder}/ape_gan", f"{tmp_path}/in.npz", out, "--device=cpu"]) == 0


def test_purify_refuses_what_it_cannot_do_and_writes_nothing(folder, tmp_path, capsys):
    victim, out = f"{folder}/ape_gan", tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no .png" in fails(capsys, 2, "purify", victim, empty, out)
    Image.new("L", (9, 8)).save(empty / "wide.png")
    assert "9 x 8 pixels" in fails(capsys, 2, "purify", victim, empty, out)
    (empty / "wide.png").write_bytes(b"\x89PNG no more")
    assert "wide.png" in fails(capsys, 2, "purify", victim, empty, out)
    assert "there is no" in fails(capsys, 2, "purify", victim, tmp_path / "nowhere", out)
    assert "no 'magnet' in this run" in fails(capsys, 2, "purify", f"{folder}/magnet", empty, out)
    assert not out.exists()


def test_a_corrupt_checkpoint_is_one_line_and_nothing_is_lost(tmp_path, capsys):
    out = tmp_path / "t"
    main(["train", "quickstart", f"--out={out}", *SMALL])
    good = (out / "standard_training" / "checkpoint.safetensors").read_bytes()
    path = out / "ape_gan" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    line = fails(capsys, 2, "run", "quickstart", f"--out={out}", *SMALL)
    assert str(path) in line and "delete it" in line
    assert (out / "standard_training" / "checkpoint.safetensors").read_bytes() == good


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = fails(capsys, 1, "train", "quickstart", f"--out={tmp_path / 't'}", *SMALL)
    assert "the disk is full" in line


def test_ctrl_c_saves_and_exits_130(tmp_path):
    """A real process, a real signal: it says where it stopped, and the next run goes on."""
    out = tmp_path / "t"
    command = [sys.executable, "-m", "spearshield", "train", "quickstart", f"--out={out}"]
    command += ["--set=pretraining.steps=100000", "--device=cpu"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    losses = out / "standard_training" / "losses.jsonl"
    deadline = time.monotonic() + 60
    while not (losses.exists() and losses.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    child.send_signal(2)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "stopped after step" in said and "Traceback" not in said
    assert (out / "standard_training" / "checkpoint.safetensors").exists()


def test_report_merges_runs(folder, tmp_path, capsys):
    out = tmp_path / "both"
    assert main(["report", str(folder), str(folder), f"--out={out}"]) == 0
    assert (out / "report.html").exists()
    assert "results.json" in fails(capsys, 2, "report", tmp_path / "no", f"--out={out}")


def test_the_installed_command_is_the_one_that_is_tested():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="spearshield")
    assert entry.load() is main


def test_an_audit_does_not_replace_another_one(own, capsys):
    words = ["audit", "--classifier=my_model:build", f"--data={own}/images.npz", "--attack=fgsm"]
    words += ["--eps=0.1", f"--out={own}/out", "--device=cpu", f"--weights={own}/w.safetensors"]
    assert main(words) == 0
    assert main([*words, "--min-robust-acc=1"]) == 3
    before = (own / "out" / "results.json").read_bytes()
    assert "holds the result of another audit" in fails(capsys, 2, *words, "--images=3")
    assert (own / "out" / "results.json").read_bytes() == before
    wide = [*words, f"--out={own}/wide"]
    assert "or --eps 8/255" in fails(capsys, 2, *wide, "--eps=8")
    assert "--eps 128/255" in fails(capsys, 2, *wide, "--eps=128", "--threat=L2")
    assert main([*wide, "--eps=8/255"]) == 0


def test_corrected_code_with_the_same_weights_is_measured_again(own):
    """A reused row has the provenance of the command that measured it."""
    words = ["audit", "--classifier=my_model:build", f"--data={own}/images.npz", "--attack=fgsm"]
    words += ["--eps=0.1", f"--out={own}/out", "--device=cpu", f"--weights={own}/w.safetensors"]

    def rows(*more):
        assert main([*words, *more]) == 0
        return json.loads((own / "out" / "results.json").read_text())

    first, again = rows(), rows("--min-robust-acc=0")
    assert [row | {"reused": True} for row in first] == again
    assert not any(row["reused"] for row in first) and again[0]["command"].endswith("safetensors")
    (own / "my_model.py").write_text(
        "import torch\n"
        "class Corrected(torch.nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        return super().forward(1 - x)\n"
        "def build():\n"
        "    return Corrected(torch.nn.Flatten(), torch.nn.Linear(64, 3))\n"
    )
    sys.modules.pop("my_model")
    importlib.invalidate_caches()
    corrected = rows()
    assert not any(row["reused"] for row in corrected)
    assert corrected[0]["weights_digest"] == first[0]["weights_digest"]
    assert corrected[0]["l2"] != first[0]["l2"]


def test_an_audit_of_a_training_into_its_own_folder_is_refused(folder, capsys):
    training = str(folder / "ape_gan")
    words = ["audit", training, "--attack=fgsm", "--eps=0.1", "--device=cpu", f"--out={training}"]
    assert "ape_gan holds a training; choose another folder (--out)" in fails(capsys, 2, *words)
    assert main([*words[:-1], f"--out={folder}-judged"]) == 0


def test_a_changed_method_keeps_the_budget_and_the_number_of_steps(own):
    words = ["learn-attack", "--classifier=my_model:loaded", f"--data={own}/images.npz"]
    words += ["--method=adv_gan", "--eps=0.1", "--steps=2", "--set=method.width=2"]
    assert main([*words, f"--out={own}/spear", "--device=cpu"]) == 0
    card = json.loads((own / "spear" / "card.json").read_text())
    method = card["training"]["method"]
    assert method["threat"]["eps"] == 0.1 == card["threat"]["eps"]
    assert (method["width"], method["decay_steps"]) == (2, 2)
