"""What an attacker tries with a folder, a file or an image; docs/security.md lists every test."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from mutations import fails_under
from report.samples import EVIL, row
from spearshield import api
from spearshield.classifiers import user
from spearshield.classifiers.m_cnn import MCNN
from spearshield.cli import main
from spearshield.datasets.digits import Digits
from spearshield.experiment import limits
from spearshield.experiment.recipe import Recipe, load_recipe
from spearshield.experiment.run import Run
from spearshield.methods.dae import DAE
from spearshield.methods.standard_training import StandardTraining
from spearshield.report import write_report
from spearshield.storage import checkpoint
from spearshield.storage.atomic import write_atomically
from spearshield.storage.weights import load_weights
from spearshield.threat import Linf
from spearshield.training.loop import Training

X = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
HARMLESS = "spearshield.classifiers.user:User"


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()


@pytest.fixture(scope="module")
def shield(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "shield"
    options = {"steps": 1, "batch_size": 8, "held_out": 0, "progress": False}
    y = torch.arange(16) % 10
    api.protect(small(), X, y, method=DAE(width=2), threat=Linf(0.1), **options).save(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    pretraining = Training(StandardTraining(), steps=1, batch_size=8)
    defences = (Training(DAE(width=2), steps=1, batch_size=8),)
    recipe = Recipe(Digits(), MCNN(), pretraining, defences, (), images=4)
    Run(recipe, "small", folder).train()
    return folder


def edited(source: Path, target: Path, field: str, value: object) -> Path:
    """A copy of a folder with one field of its card or recipe replaced."""
    shutil.copytree(source, target)
    path = next(target / name for name in ("card.json", "recipe.json") if (target / name).exists())
    saved = json.loads(path.read_text())
    inner: Any = saved
    *parts, last = (int(part) if part.isdigit() else part for part in field.split("."))
    for part in parts:
        inner = inner[part]
    inner[last] = value
    path.write_text(json.dumps(saved))
    return target


CARD = [
    ("training.method.width", "16", "training.method.width must be int, got '16'"),
    ("training.method.width", -1, "training.method: width must be at least 1"),
    ("training.method", None, "training.method must be Method, got None"),
    ("training.method", {"type": "os:system"}, "refusing to load 'os:system'"),
    ("training.method", {"type": "spearshield.method:Method"}, "refusing to load"),
    (
        "training.method",
        {"type": "spearshield.threat:Linf", "eps": 1.0},
        "must be Method, got Linf",
    ),
    ("training.name", "../up", "name takes at most 100 letters"),
    ("training.steps", 1.5, "training.steps must be int, got 1.5"),
    ("name", "../../up", "name takes at most 100 letters"),
    ("name", ".hidden", "name takes at most 100 letters"),
    ("name", ["dae"], "name must be str"),
    ("shape", [1, 10**9, 10**9], "at most 16,000,000 pixels"),
    ("shape", [1, 8, -8], "at least 1 with at most"),
    ("shape", [10**12, 8, 8], "at most 1000 channels"),
    ("shape", [1, 8], "shape must be a list of int and int and int"),
    ("shape", None, "shape must be a list of int and int and int, got None"),
    ("names", [], "number of classes is 0"),
    ("names", ["a", 2], "names must be a list of str"),
    ("classifier.wrapped", "yes", "classifier.wrapped must be bool"),
    ("classifier.mean", [True], "classifier.mean must be"),
    ("classifier.output", "x", "classifier.output must be 'logits' or"),
    ("kind", "program", "kind must be 'shield' or 'spear'"),
    ("seed", True, "seed must be int"),
    ("format", 2, "it has format 2, this version reads 1"),
    ("measured", {"robust": 0.5}, "measured.effort is missing"),
    ("threat.eps", -1.0, "threat: eps must be above 0"),
]
RECIPES = [
    ("images.classes", 10**9, "number of classes is 1000000000"),
    ("images.classes", "10", "images.classes must be int"),
    ("images.shape", [1, 10**6, 10**6], "at most 16,000,000 pixels"),
    ("name", None, "name must be str"),
    ("weights_sha256", 5, "weights_sha256 must be str"),
    ("recipe", {}, "the object has no field 'type'"),
    ("recipe", [1], "it holds tuple"),
    ("recipe.defences", None, "defences must be a list of Training"),
    ("recipe.defences", {}, "defences has no field 'type'"),
    ("recipe.defences.0.name", "outcomes", "a training cannot be called 'outcomes'"),
    ("recipe.defences.0.name", "NUL", "a training cannot be called 'NUL'"),
    ("recipe.defences.0.name", "/etc", "name takes at most 100 letters"),
    ("recipe.defences.0.name", "a" * 101, "name takes at most 100 letters"),
    ("recipe.defences.0.trained_on", "../up", "not an earlier defence"),
    ("recipe.seed", 10**30, "has more than 64 bits"),
    ("recipe.seed", 1.5, "seed must be int, got 1.5"),
    ("recipe.type", "spearshield.experiment.run:Run", "unknown; Run has recipe"),
    ("recipe.type", "spearshield\0:x", "refusing to load"),
]


def refused(call: Callable[[], object], said: str) -> str:
    with pytest.raises(ValueError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize(("field", "value", "said"), CARD, ids=lambda v: str(v)[:30])
def test_a_changed_card_is_refused_by_the_name_of_the_field(
    shield: Path, tmp_path: Path, field: str, value: object, said: str
) -> None:
    folder = edited(shield, tmp_path / "x", field, value)
    assert "card.json" in refused(lambda: api.load(folder), re.escape(said))


@pytest.mark.parametrize(("field", "value", "said"), RECIPES, ids=lambda v: str(v)[:30])
def test_a_changed_recipe_is_refused_by_the_name_of_the_field(
    trained: Path, tmp_path: Path, field: str, value: object, said: str
) -> None:
    folder = edited(trained, tmp_path / "x", field, value)
    assert "recipe.json" in refused(lambda: api.load(folder), re.escape(said))


@fails_under(
    "networks of any size",
    (limits._Bounded, "__torch_dispatch__", lambda s, f, t, a=(), k=None: f(*a, **(k or {}))),
    raises=pytest.fail.Exception,
)
def test_a_network_that_a_file_makes_too_large_is_not_built(
    shield: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_WEIGHTS", 100_000)
    folder = edited(shield, tmp_path / "card", "training.method.width", 300)
    refused(lambda: api.load(folder), r"card\.json: the network would have more than 100,000")
    monkeypatch.setattr(limits, "MOST_WEIGHTS", 10_000_000)
    folder = edited(trained, tmp_path / "run", "recipe.defences.0.method.width", 3000)
    refused(lambda: api.load(folder), "small: the network would have more than 10,000,000")


class Everything:
    def __contains__(self, _: object) -> bool:
        return True


@fails_under(
    "functions of files called",
    (user, "_named_by_user", Everything()),
    raises=pytest.fail.Exception,
)
def test_no_function_that_a_file_names_is_imported_or_called(
    shield: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "payload.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\ndef build(): return 1\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    named = {"type": HARMLESS, "target": "payload:build"}
    saved = edited(shield, tmp_path / "card", "classifier.architecture", named)
    run = edited(trained, tmp_path / "run", "recipe.classifier", named)
    if "payload" in sys.modules:
        monkeypatch.delitem(sys.modules, "payload")
    try:
        assert api.load(saved).purify(X).shape == X.shape
        assert api.load(run).purify(X).shape == X.shape
    except ValueError as error:
        pytest.fail(f"the function was called: {error}")
    refused(lambda: api.load(saved)(X), "pass the network to load|only a file names")
    refused(lambda: api.load(run)(X), "which only a file names; importing it runs its code")
    assert main(["run", str(run / "recipe.json"), f"--out={tmp_path / 'out'}"]) == 2
    assert not (tmp_path / "ran").exists()


def test_a_file_in_the_working_directory_does_not_pass_for_an_optional_package(
    shield: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "timm.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    timm = {"type": "spearshield.classifiers.timm_model:TimmModel", "name": "resnet18"}
    edited(shield, tmp_path / "x", "classifier.architecture", timm)
    np.savez(tmp_path / "in.npz", x=X.numpy())
    here = [path for path in sys.path if path not in ("", str(tmp_path))]
    monkeypatch.setattr(sys, "path", here)
    monkeypatch.chdir(tmp_path)
    main(["purify", "x", "in.npz", "out.npz"])
    assert not (tmp_path / "ran").exists() and str(tmp_path) not in sys.path


def test_a_run_folder_makes_no_file_outside_it_be_read(trained: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("token:x:0:0")
    folder = edited(trained, tmp_path / "x", "recipe.weights", str(secret))
    shutil.copytree(folder / "standard_training", folder / "undefended")
    os.truncate(secret, 0)
    secret.chmod(0)
    assert api.load(folder).purify(X).shape == X.shape
    secret.chmod(0o600)
    secret.write_text("token:x:0:0")
    said = refused(lambda: load_weights(small(), secret), "holds no weights: it is text")
    assert "token" not in said


BROKEN = {
    "empty": b"",
    "deep": b"[" * 10**6,
    "list": b"[]",
    "latin": '{"a": "é"}'.encode("latin-1"),
    "nan": b'{"a": NaN}',
    "twice": b'{"type": 1, "type": 2}',
}


JSON_FILES = [
    (name, kind)
    for name in ("card.json", "recipe.json", "results.json", "training.json")
    for kind in BROKEN
    if kind != "list" or name in ("card.json", "recipe.json")
]


@pytest.mark.parametrize(("name", "kind"), JSON_FILES)
def test_every_json_file_goes_through_the_bounded_reader(
    trained: Path, shield: Path, tmp_path: Path, name: str, kind: str
) -> None:
    folder = tmp_path / "x"
    shutil.copytree(shield if name == "card.json" else trained, folder)
    path = folder / "dae" / name if name == "training.json" else folder / name
    path.write_bytes(BROKEN[kind])
    recipe = load_recipe(str(trained / "recipe.json"))
    calls: dict[str, Callable[[], object]] = {
        "card.json": lambda: api.load(folder),
        "recipe.json": lambda: api.load(folder),
        "results.json": lambda: write_report([folder], tmp_path / "report"),
        "training.json": lambda: Run(recipe, "small", folder).train(),
    }
    assert name in refused(calls[name], "is not JSON|holds a JSON list")


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
def test_a_pipe_or_a_device_in_a_folder_does_not_hang(
    shield: Path, tmp_path: Path, name: str, kind: str
) -> None:
    folder = tmp_path / "x"
    shutil.copytree(shield, folder)
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero")
    refused(lambda: api.load(folder), "is a pipe or a device; name a file")


def test_a_shield_that_was_copied_in_part_says_so(shield: Path, tmp_path: Path) -> None:
    folder = tmp_path / "x"
    shutil.copytree(shield, folder)
    content = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(content[:99])
    refused(lambda: api.load(folder), r"not the file that card\.json describes; copy both again")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*weights\.safetensors; looked in .*x$"):
        api.load(folder)
    (folder / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match="holds no card"):
        api.load(folder)


def change(tree: Any, **changes: object) -> Any:
    return {**tree, **changes}


CHECKPOINTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a list": (lambda tree: [1], "steps is missing"),
    "no steps": (lambda tree: {"state": tree["state"]}, "steps is missing"),
    "steps of text": (lambda tree: change(tree, steps="5"), "steps must be int, got '5'"),
    "negative steps": (lambda tree: change(tree, steps=-5), "steps is -5"),
    "no state": (lambda tree: change(tree, state=None), "does not fit"),
    "no optimiser": (lambda tree: change(tree, state={**tree["state"], "_extra_state": 5}), "fit"),
    "nan": (
        lambda tree: change(tree, state={k: _nan(v) for k, v in tree["state"].items()}),
        "values that are not finite",
    ),
}


def _nan(value: Any) -> Any:
    floats = isinstance(value, torch.Tensor) and value.is_floating_point()
    return torch.full_like(value, torch.nan) if floats else value


@pytest.mark.parametrize("fault", CHECKPOINTS)
def test_a_changed_checkpoint_is_refused(trained: Path, tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "x"
    shutil.copytree(trained, folder)
    path = folder / "dae" / "checkpoint.safetensors"
    make, said = CHECKPOINTS[fault]
    checkpoint.save(path, make(checkpoint.load(path)))
    assert "checkpoint.safetensors" in refused(lambda: api.load(folder / "dae"), said)


@pytest.mark.parametrize(
    "tree", ['{"$tensor": "x"}', '{"$tensor": [1]}', '{"$int_keys": 5}', "[" * 5000, "NaN"]
)
def test_a_checkpoint_with_another_tree_is_refused(tmp_path: Path, tree: str) -> None:
    header = {"tree": tree, "sha256": checkpoint._checksum({})}
    (tmp_path / "c").write_bytes(safetensors.torch.save({}, header))
    refused(lambda: checkpoint.load(tmp_path / "c"), "c is not a checkpoint .*; delete it")


def test_a_changed_score_in_a_folder_of_an_audit_is_refused(tmp_path: Path) -> None:
    def audit() -> object:
        options = {"attacks": ["fgsm"], "threat": Linf(0.1), "limit": 8, "progress": False}
        return api.audit(small(), X, torch.arange(16) % 10, folder=tmp_path, **options)

    audit()
    path = next((tmp_path / "outcomes").glob("*.safetensors"))
    stored = checkpoint.load(path)
    for tree, said in (
        ([1], "holds no score; delete it"),
        ({k: v for k, v in stored.items() if k != "seconds"}, "holds no score .'seconds'.; delete"),
        (stored | {"provenance": None}, "holds no score"),
        (stored | {"provenance": {"x": 1}}, "holds no score"),
    ):
        checkpoint.save(path, tree)
        assert path.name in refused(audit, said)


def test_a_report_escapes_what_rows_say_and_writes_nothing_outside(tmp_path: Path) -> None:
    evil = {"recipe": EVIL, "method": "../../up", "attack": f"a{EVIL}", "device": EVIL}
    rows = [asdict(row(**evil, command=EVIL, parameters={EVIL: EVIL}))]
    source, out = tmp_path / "in" / "results.json", tmp_path / "a" / "out"
    source.parent.mkdir()
    source.write_text(json.dumps(rows))
    write_report([source], out)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;" in page
    markdown = (out / "report.md").read_text(encoding="utf-8")
    assert "<script" not in re.sub(r"^```.*?^```$", "", markdown, flags=re.M | re.S)
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {"in/results.json", "a/out/report.html", "a/out/report.md"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("acc", value) for value in (2.0, "1", None, -0.1, True)),
        *(("images", value) for value in (0, 1.5)),
        *(("eps", value) for value in (0, -1, [])),
        *(("interval", value) for value in ([0.1], [0, 1, 2], "ab")),
        *(("curve", value) for value in ([[0.0, 2.0], [1.0, 1.0]], [[0.0]])),
        *(("findings", value) for value in ([{}], [5], "x")),
        *(("verdict", "perfect"), ("versions", {}), ("split", ""), ("parameters", []), ("new", 1)),
    ],
)
def test_a_row_with_a_wrong_field_is_refused(tmp_path: Path, field: str, value: object) -> None:
    rows = [{**asdict(row()), field: value}]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    said = refused(lambda: write_report([tmp_path], tmp_path / "out"), field)
    assert "results.json" in said
    assert not (tmp_path / "out").exists()


def test_a_symbolic_link_in_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("kept")
    (tmp_path / "report.html").symlink_to(tmp_path / "other")
    write_atomically(tmp_path / "report.html", b"new")
    assert (tmp_path / "other").read_text() == "kept"
    assert not (tmp_path / "report.html").is_symlink()


def test_names_of_members_of_an_archive_are_no_paths(shield: Path, tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    arrays = {"x": X.numpy(), "../../evil": X.numpy()}
    np.savez(inside / "in.npz", **arrays)
    assert main(["purify", str(shield), str(inside / "in.npz"), str(inside / "out.npz")]) == 0
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {"a/b/in.npz", "a/b/out.npz"}


PAGE = Path(__file__).parents[1] / "docs" / "security.md"


def test_the_page_and_the_tests_agree() -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = re.findall(r"`tests/(\S+?\.py)::(test_\w+)`", page)
    assert len(listed) > 20
    for file, name in listed:
        source = (Path(__file__).parent / file).read_text(encoding="utf-8")
        assert f"def {name}(" in source, f"{file} has no {name}"
    own = re.findall(r"^def (test_\w+)\(", Path(__file__).read_text(encoding="utf-8"), re.M)
    missing = {*own} - {name for _, name in listed} - {"test_the_page_and_the_tests_agree"}
    assert not missing, f"docs/security.md does not list {missing}"
    for number in ("32 MiB", "16 GiB", f"{limits.MOST_WEIGHTS:,}", f"{limits.MOST_PIXELS:,}"):
        assert number in page
