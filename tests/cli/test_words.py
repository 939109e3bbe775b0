"""Every option of every command meets bad values: exit status 2, one line, no traceback."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.cli import main, values
from spearshield.cli.main import outcome
from spearshield.cli.parser import parser
from spearshield.experiment.recipe import load_recipe
from spearshield.judging.trial import Trial
from spearshield.progress import Interrupted
from spearshield.storage.serialization import dump
from spearshield.threat import L2
from spearshield.views import Adaptive

MAIN = sys.modules["spearshield.cli.main"]  # the name of the package is its function
NOT_NUMBERS = ("x", "nan", "inf", "0,3", "1/0", "1e400", "8/255/3", "8/")
NOT_WHOLE = ("-1", "1.5", "x", "1e9", "9" * 5000, "99999999999999999999")
BAD = {
    "effort": ("quik", "Quick!"),
    "output": ("logit", "1"),
    "split": ("trian", "all"),
    "format": ("png", "pt"),
    "kind": ("attack", "everything"),
    "device": ("mps", "gpu", "cuda:x", "cuda:1000", "cpu:0"),
    "threads": ("0", "100000", *NOT_WHOLE),
    "images": NOT_WHOLE,
    "classes": ("0", "1000000000", *NOT_WHOLE),
    "steps": NOT_WHOLE,
    "batch_size": ("0", *NOT_WHOLE),
    "held_out": NOT_WHOLE,
    "seed": ("9223372036854775808", *NOT_WHOLE),
    "eps": ("0", "-1", "-8/255", *NOT_NUMBERS),
    "min_robust_acc": ("85", "-0.1", *NOT_NUMBERS),
    "mean": ("0.5,", ",", "0.5,x", *NOT_NUMBERS[:3]),
    "std": ("0.5;0.5", *NOT_NUMBERS[:3]),
    "size": ("0x5", "32x", "x", "1x2x3", "-1", "²x²", "1000000", "3.5"),
    "data_dir": ("/no/such/folder",),
}
"""Bad values by the name of an option; every option also refuses an empty value."""

FREE = {
    *("help", "debug", "require_valid", "dry_run", "json", "version"),  # flags
    *("model", "classifier", "weights", "data", "purifier", "purifier_weights", "out", "changes"),
    *("threat", "attack", "view", "transfer_from", "method", "input", "output_path", "onnx"),
    *("recipe", "runs", "names", "models"),
}
"""Options whose values are names and paths, which are looked up when the command runs."""


PARSER = parser()


def commands() -> dict[str, argparse.ArgumentParser]:
    (choices,) = (a for a in PARSER._actions if isinstance(a, argparse._SubParsersAction))
    return choices.choices


CASES = [
    (name, action, value)
    for name, command in commands().items()
    for action in command._actions
    for value in (*(BAD.get(action.dest, ()) if action.type is not Path else ()), "", "  ")
    if action.nargs != 0
]


@pytest.fixture
def nothing_runs(monkeypatch):
    """A value that is accepted would run the command."""
    monkeypatch.setattr(MAIN, "import_module", lambda name: pytest.fail("accepted"))
    monkeypatch.setattr(MAIN, "parser", lambda: PARSER)


def the_line(capsys, words: list[str]) -> str:
    """The one line on stderr of a command that the parser refuses."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    said = capsys.readouterr()
    line, *more = said.err.splitlines()
    assert (
        not more
        and not said.out
        and line.startswith(f"spearshield {words[0]}: ")
        and len(line) < 800
    )
    return line


@fails_under("usage before the line", (values.Parser, "error", argparse.ArgumentParser.error))
def test_every_option_refuses_bad_values_in_one_line(capsys, nothing_runs):
    for name, action, value in CASES:
        option = next((o for o in action.option_strings if o.startswith("--")), None)
        line = the_line(capsys, [name, f"{option}={value}"] if option else [name, value])
        assert not option or option in line, line
        if not value.strip():
            assert "is empty" in line


def test_every_option_is_tried():
    tried = {action.dest for command in commands().values() for action in command._actions}
    assert tried - FREE <= BAD.keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lst"], "no command 'lst'; the closest of 13 are list"),
        (["audit", "--out=o", "--clasifier=x"], "no option '--clasifier'; "),
        (["audit", "--out=o", "model", "extra"], "no use for 'extra'"),
        (["run", "quickstart", "--out", ""], "--out is empty"),
        (["audit", "--out=o", "--effort=standart"], "no effort 'standart'; there are standard"),
        (["audit", "--out=o", "--min-robust-acc=85"], "for 85 % write 0.85"),
        (["audit", "--out=o", "--eps=a\nb"], "'a\\nb' is not a number"),
        (["show"], "required: NAME"),
    ],
)
def test_the_parser_says_what_to_do(capsys, nothing_runs, words, said):
    with pytest.raises(SystemExit):
        main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_choices_are_read_in_any_spelling():
    words = ["attack", "--out=o", "--output=Binary-Logit", "--split=TEST", "--format=NPZ"]
    found = parser().parse_args([*words, "--eps=8 / 255", "--size=4", "--device=CPU"])
    assert (found.output, found.split, found.format) == ("binary_logit", "test", "npz")
    assert (found.eps, found.size, found.device) == (8 / 255, [4, 4], "cpu")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "run it again"),
        (Interrupted("stopped after step 3"), 130, "stopped after step 3"),
        (FileExistsError(17, "File exists", "a.txt"), 2, "a.txt: File exists"),
        (PermissionError(13, "Permission denied", "/root"), 2, "/root: Permission denied"),
        (OSError(28, "No space left on device"), 1, "the disk is full"),
        (ValueError("eps"), 2, "eps"),
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "not enough memory"),
        (TypeError("a fault"), 1, "please report it"),
    ],
)
def test_the_status_of_an_error(error, status, said):
    found, message = outcome(error)
    assert found == status and said in message


def test_a_fault_of_the_package_shows_its_traceback(capsys, monkeypatch):
    def fault(name):
        raise KeyError("a fault")

    monkeypatch.setattr(MAIN, "import_module", fault)
    assert main(["list"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "KeyError: 'a fault'" in said and "please report it" in said
    with pytest.raises(KeyError):
        main(["list", "--debug"])


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m spearshield list | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == "" and done.stdout.splitlines()[0] == "methods"


def test_threads_are_set_for_the_command(monkeypatch):
    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(MAIN, "import_module", lambda name: sys.modules[name])
    monkeypatch.setattr("spearshield.cli.commands.do_run", lambda words: 0, raising=True)
    import spearshield.cli.commands  # noqa: F401 - the module that the command runs in

    assert main(["run", "quickstart", "--threads=1"]) == 0
    assert set_to == [1]
    assert main(["run", "quickstart"]) == 0
    assert set_to == [1]


def test_every_command_that_computes_takes_threads():
    without = {name for name, c in commands().items() if "--threads" not in c.format_help()}
    assert without == {"report", "list", "show"}
    assert values.threads(str(os.cpu_count())) == os.cpu_count()


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A classifier, its weights and images in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net_of_words.py").write_text(
        "import torch\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))\n"
        "twin = build\n"
        "def halve(x):\n"
        "    return x / 2\n"
    )
    monkeypatch.delitem(sys.modules, "net_of_words", raising=False)
    x = np.random.default_rng(0).integers(0, 256, (8, 4, 4), dtype=np.uint8)
    np.savez("images.npz", x=x, y=np.arange(8) % 3)
    (tmp_path / "folder").mkdir()
    np.savez("one_class.npz", x=x, y=np.full(8, 2))
    return tmp_path


B = ("--classifier=net_of_words:build", "--data=images.npz", "--device=cpu")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["audit", *B, "--attack=fgsm", "--eps=0.1", "--view=bpda"], "bpda needs a purifier"),
        (["audit", *B, "--attack=fgsm", "--eps=0.1", "--view=eot(10)"], "eot(10) needs"),
        (["audit", *B, "--attack=fgsm", "--eps=0.1", "--view=in-range"], "a generator"),
        (["audit", *B, "--attack=fgsm", "--eps=0.1", "--view=detector_aware"], "rejects images"),
        (["attack", *B, "--attack=fgsm", "--eps=0.1", "--view=bpda"], "bpda needs a purifier"),
        (["audit", *B, "--attack=fgsm", "--eps=0.1", "--view=bpda(x)"], "no through 'x'"),
        (["audit", *B, "--attack=fgsm", "--eps=0.1", "--view=eot(0)"], "at least 1, got 0"),
        (["audit", *B, "--attack=fgsm", "--eps=0.1", "--view=eot(1000000)"], "at most 10000"),
        (["audit", *B, "--attack=fgsm", "--eps=0.1", "--view=eot("], "no view 'eot('"),
        (["audit", *B, "--attack=fgsm", "--threat=L2"], "--threat L2 needs a budget"),
        (["audit", *B, "--attack=fgsm", "--eps=0.1", "--threat=L7"], "no norm 'L7'; there are L"),
        (["audit", *B, "--attack=fgms", "--eps=0.1"], "no attack 'fgms'; the closest of 19 are"),
        (["audit", *B, "--attack=fgsm", "--eps=0.1", "--effort=quick"], "no use for --effort"),
        (["audit", *B, "--eps=0.1", "--view=eot"], "no use for --view with a battery"),
        (["audit", *B, "--attack=fgsm", "--eps=0.1", "--out=images.npz/x"], "is a file, not a"),
        (["audit", "nowhere", "--attack=fgsm"], "nowhere is neither a saved shield"),
        (["audit", "nowhere/x", "--size=4"], "no use for --size without --data"),
        (["audit", *B, "--eps=0.1", "--attack=folder"], "folder is neither a saved attack nor"),
        (["audit", *B, "--eps=0.1", "--split=validation"], "no images aside for validation"),
        (["audit", *B, "--eps=0.1", "--classifier=mynet:"], "function, got mynet:"),
        (["audit", *B, "--data=folder", "--eps=0.1", "--out=folder"], "inside the data in folder"),
        (["audit", *B, "--data=folder", "--eps=0.1", "--out=folder/a"], "inside the data in fold"),
        (
            ["attack", *B, "--eps=0.1", "--attack=pgd", "--attack=fgsm"],
            "give one --attack, got pgd",
        ),
        (
            ["attack", *B, "--eps=0.1", "--view=eot", "--view=bpda"],
            "give one --view, got eot, bpda",
        ),
        (
            ["audit", *B, "--eps=0.1", "--attack=pgd", "--set=attack.threat.eps=0.2"],
            "--eps gives Linf 0.1, and --set makes it Linf 0.2; leave one out",
        ),
        (
            ["attack", *B, "--eps=0.1", "--attack=pgd", "--set=attack.threat.eps=0.2"],
            "--eps gives Linf 0.1, and --set makes it Linf 0.2; leave one out",
        ),
        (
            [
                "transfer",
                "net_of_words:build",
                "net_of_words:twin",
                "--data=images.npz",
                "--eps=0.1",
                "--attack=pgd",
                "--set=attack.threat.eps=0.2",
            ],
            "--eps gives Linf 0.1, and --set makes it Linf 0.2; leave one out",
        ),
        (["run", "quickstart", "--seed=3", "--set=seed=4"], "--seed is 3, and --set makes it 4"),
        (["protect", *B, "--eps=0.1", "--set=lr=nan"], "'nan' is not a number"),
        (["protect", *B, "--eps=0.1", "--set=width=2", "--set=width=3"], "width twice"),
        (["protect", *B, "--eps=0.1", "--set=wdth=2"], "no field 'wdth' in APEGAN; there are w"),
        (["protect", *B, "--eps=0.1", "--set==2"], "takes FIELD.SUB=VALUE"),
        (["protect", *B, "--eps=0.1", "--set=width.x=2"], "has no fields"),
        (["protect", *B, "--method=apegam", "--eps=0.1"], "no method 'apegam'; the closest of"),
        (
            ["protect", *B, "--batch-size=9", "--held-out=0"],
            "but there are 8 images; choose at most 8",
        ),
        (["protect", *B, "--batch-size=1", "--set=width=2"], "batch_size must be at least 2"),
        (["protect", *B, "--steps=0", "--set=width=2"], "random weights; choose at least 1"),
        (["protect", *B, "--data=one_class.npz", "--classes=3"], "all 7 are of class 2"),
        (["protect", *B, "--method=uap"], "trains an attack and no defence"),
        (["learn-attack", *B, "--method=ape_gan"], "trains no attack"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(own, capsys, words, said):
    out = [] if any(word.startswith("--out") for word in words) else [f"--out={own}/out"]
    assert main([*words, *out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line, line
    assert not (own / "out").exists()


def test_a_view_with_its_setting(own):
    words = ["audit", *B, "--purifier=net_of_words:halve", "--attack=fgsm", "--eps=0.1"]
    assert main([*words, "--view=BPDA(identity)", f"--out={own}/out"]) == 0
    (row, _) = json.loads((own / "out" / "results.json").read_text())
    assert row["view"] == "bpda"


def test_a_shield_is_not_trained_for_a_folder_that_holds_another(own, capsys, monkeypatch):
    words = ["learn-attack", *B, "--method=uap", "--steps=1", "--eps=0.1", f"--out={own}/spear"]
    assert main(words) == 0
    monkeypatch.setattr("spearshield.experiment.learning.train", None)
    assert main([*words, "--steps=2"]) == 2
    assert "holds another saved spear" in capsys.readouterr().err.splitlines()[-1]


def test_show_says_why_a_folder_is_not_described(own, capsys):
    assert main(["show", "folder"]) == 2
    assert "no card.json or recipe.json in folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["PGD", "Carlini-Wagner", "Defense-GAN", "APEGAN", "RAND+FGSM"])
def test_show_finds_a_name_in_any_spelling(own, capsys, name):
    assert main(["show", name, "fgsm"]) == 0
    said = capsys.readouterr().out
    assert "Hyper-parameters" in said and "attacks/fgsm" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("trials.0.attack.threat.eps=8", "more than the whole range"),
        ("defences.ape_gan.method.width=0", "width must be at least 1"),
        ("defences.ape_gan.learn_from=none", "set learn_from of its training"),
        ("defences.ape_gan.learn_from.threat.eps=9/2", "more than the whole range"),
        ("pretraining.learn_from=fgsm", "FGSM needs threat"),
        ("pretraining.steps=0", "would keep random weights"),
        ("defences.ape_gan.batch_size=5000", "batch_size of ape_gan is 5000"),
        ("defences.ape_gan.batch_size=1", "batch_size must be at least 2"),
        ("defences.ape_gan.trained_on=nobody", "needs 'nobody'"),
        ("seed=-1", "seed must be at least 0"),
        ("trials.-1.attack.steps=2", "no element '-1'"),
        ("sed=1", "no field 'sed' in Recipe; there are seed"),
        ("data=digit", "file 'digit'; there are digits"),
        ("classifier=lnet", "no classifier 'lnet'; the closest of"),
        ("trials.1.view=eot(-1)", "draws must be at least 1"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_its_first_training(own, capsys, change, said):
    assert main(["run", "quickstart", f"--out={own}/out", "--device=cpu", f"--set={change}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line, line
    assert not (own / "out").exists()


def test_a_budget_of_a_norm_that_allows_every_image_is_refused_before_training(own, capsys):
    recipe = load_recipe("quickstart")
    large = replace(recipe, trials=(Trial(FGSM(L2(128.0)), Adaptive()), *recipe.trials))
    (own / "mine").write_text(json.dumps(dump(large)))
    assert main(["run", "mine", "--dry-run"]) == 0
    assert main(["run", "mine", f"--out={own}/out"]) == 2
    assert "L2 128 is more than 8" in capsys.readouterr().err
    assert not (own / "out").exists()


def test_a_recipe_is_a_name_or_a_file(own, capsys):
    for words, said in {
        ".": ". is a folder",
        "quikstart": "quickstart",
        "none.json": "there is no none.json",
    }.items():
        assert main(["run", words]) == 2
        assert said in capsys.readouterr().err
    assert main(["run", "QuickStart", "--dry-run"]) == 0
    (own / "a_file").write_text(capsys.readouterr().out)
    assert main(["run", "a_file", "--dry-run"]) == 0
    assert json.loads((own / "a_file").read_text()) == json.loads(capsys.readouterr().out)
