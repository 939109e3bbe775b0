"""Arguments of public functions: converted, or refused in one line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spearshield as ss
from spearshield.arguments import check_instance, optional_path, path, several, switch
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.experiment.as_examples import as_examples
from spearshield.experiment.defaults import training_for
from spearshield.experiment.device import checked_device
from spearshield.experiment.folders import CARD, refuse_others
from spearshield.experiment.trials import as_attack, as_view, asked
from spearshield.ranges import optional_whole, require, whole_number
from spearshield.spelling import known
from spearshield.storage.serialization import dump
from spearshield.threat import Linf
from spearshield.views import Adaptive


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: path("folder", 3), "^folder must be a path, as folder='results', got 3$"),
        (lambda: path("folder", ""), "got ''$"),
        (lambda: path("folder", b"x"), "got b'x'$"),
        (lambda: path("folder", Path), "got the class Path$"),
        (lambda: path("folder", "a\nb"), r"got 'a\\nb'$"),
        (lambda: path("folder", "a/" + "x" * 300), "has 300 bytes; names of files have at most"),
        (lambda: switch("examine", "no"), "^examine must be True or False, got 'no'$"),
        (lambda: switch("examine", None), "got None$"),
        (lambda: whole_number("limit", "3"), "^limit must be a whole number, got '3'$"),
        (lambda: whole_number("limit", None), "got None$"),
        (lambda: whole_number("limit", np.float32(2)), "got np.float32"),
        (lambda: optional_whole("limit", -1), "^limit must be at least 0, got -1$"),
        (lambda: optional_whole("limit", Adaptive()), "got Adaptive$"),
        (lambda: known(None, ["ape_gan"], "method"), "^name the method, got None; there are ape"),
        (lambda: checked_device(object()), "no device 'object'"),
        (lambda: check_instance(Linf, Linf, "a budget"), "^give a budget, got the class Linf$"),
        (lambda: as_attack(["fgsm"]), r"^give an attack as .*, got \['fgsm'\]$"),
        (lambda: as_attack(None), "got None$"),
        (lambda: as_view(None), r"^give a view as Adaptive\(\) or by name, got None$"),
        (lambda: as_view(Adaptive), "got the class Adaptive$"),
        (lambda: asked(3, None, None), "^give an attack as .*, got 3$"),
        (lambda: asked(None, None, "shield"), "^a classifier must be an nn.Module .* got str"),
        (lambda: asked(None, None, [len]), "^a classifier must be an nn.Module, got builtin"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_arguments_are_converted():
    assert path("folder", np.str_("a")) == Path("a") and optional_path("folder", None) is None
    assert switch("examine", np.True_) is True
    assert type(whole_number("limit", np.int64(3))) is int and optional_whole("limit", None) is None


def test_one_value_may_be_given_alone():
    assert several(None, str) == [] and several("ab", str) == ["ab"]
    assert several(iter("ab"), str) == several(("a", "b"), str) == ["a", "b"]
    assert several(np.array(2), str) == [np.array(2)]
    assert asked("fgsm", "adaptive", None) == (["fgsm"], [Adaptive()], [])


@pytest.mark.parametrize(
    ("module", "name", "near"), [(ss, "audits", "audit"), (ss.attacks, "PDG", "PGD")]
)
def test_a_misspelt_name_is_answered_with_the_closest(module, name, near):
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'; .* are {near}, "):
        getattr(module, name)
    assert near in dir(module) and not any(one.startswith("_") for one in dir(ss.attacks))


def test_a_file_is_no_folder(tmp_path):
    file = tmp_path / "x"
    file.write_text("")
    with pytest.raises(ValueError, match="x is a file; give the folder that holds it"):
        ss.load(file)
    with pytest.raises(ValueError, match="x is a file, not a folder; choose another folder"):
        refuse_others(file, CARD)


def test_a_training_attack_may_be_given_by_name():
    images = torch.rand(4, 1, 6, 6)
    examples = as_examples(images, [0, 1, 0, 1])
    given = {"fgsm": FGSM(Linf(0.1)), "pgd": PGD(Linf(0.1), early_stop=False)}
    for name, attack in given.items():
        training = training_for("dae", examples, Linf(0.1), name, 3, None)
        assert training.learn_from == attack
    value = PGD(Linf(0.1), steps=3)
    assert training_for("dae", examples, Linf(0.1), value, 3, None).learn_from == value


def test_a_missing_number_passes_only_where_the_annotation_allows_none():
    @dataclass(frozen=True)
    class Numbers:
        needed: Any = 1
        optional: Any = None

    Numbers.__dataclass_fields__["needed"].type = "int"
    Numbers.__dataclass_fields__["optional"].type = "int | None"
    require(Numbers(), "needed", "optional", at_least=1)
    with pytest.raises(ValueError, match="^needed must be a whole number, got None$"):
        require(Numbers(needed=None), "needed", at_least=1)


def test_numbers_of_numpy_are_dumped_as_plain_numbers():
    values = dump((np.int64(3), np.float32(0.5), np.bool_(True)))
    assert json.dumps(values) == "[3, 0.5, true]"
