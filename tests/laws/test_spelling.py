"""Names are found in any spelling, or the closest are named; numbers may be fractions."""

from __future__ import annotations

import pytest

from mutations import fails_under
from spearshield import spelling
from spearshield.discover import canonical
from spearshield.spelling import closest, known, number, whole
from spearshield.threat import L2, Linf, ThreatModel


@pytest.mark.parametrize("name", ["Linf", "linf", "L-inf", "l_inf", "L∞", "l ∞", "LINF"])
def test_a_norm_in_any_spelling(name):
    assert ThreatModel.named(name, 0.1) == Linf(0.1)


@pytest.mark.parametrize("name", ["L2", "l2", "l-2", "L²"])
def test_the_euclidean_norm_in_any_spelling(name):
    assert ThreatModel.named(name, 0.1) == L2(0.1)


@pytest.mark.parametrize(
    ("kind", "given", "name"),
    [
        ("attacks", "PGD", "pgd"),
        ("attacks", "Carlini-Wagner", "carlini_wagner"),
        ("attacks", "AutoAttack", "auto_attack"),
        ("methods", "Defense-GAN", "defense_gan"),
        ("methods", "APEGAN", "ape_gan"),
        ("classifiers", "LeNet", "lenet"),
        ("datasets", "CIFAR-10", "cifar10"),
        ("recipes", "mnist-purifiers", "mnist_purifiers"),
    ],
)
def test_a_name_in_any_spelling(kind, given, name):
    assert canonical(kind, given) == name == canonical(kind, name)


@fails_under(
    "names in file order", (spelling, "closest", lambda name, names: ", ".join(names)), name="pdg"
)
@pytest.mark.parametrize("name", ["", "é", "pdg", "pgd\n2", "a" * 10_000, "∞"])
def test_an_unknown_name_is_refused_with_the_closest_first(name):
    with pytest.raises(ValueError, match="no attack") as caught:
        known(name, ["fgsm", "bim", "pgd"], "attack")
    if "p" in name:
        assert "there are pgd" in str(caught.value)


def test_names_that_only_differ_in_spelling_are_not_guessed():
    assert known("a_b", ["a_b", "a-b"], "thing") == "a_b"
    with pytest.raises(ValueError, match="no thing 'AB'; there are a_b, a-b"):
        known("AB", ["a_b", "a-b"], "thing")


def test_many_names_are_cut_to_the_closest():
    said = closest("n77", [f"n{i}" for i in range(1000)])
    assert said.startswith("the closest of 1,000 are n77, ") and said.count(",") == 12
    assert closest("x", []) == "there are none"


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), (" 8 / 255 ", 8 / 255), ("1e-2", 0.01), ("-.5", -0.5)]
)
def test_a_number(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "x", "0,3", "8/", "/8", "1/0", "1/2/3", "nan", "inf", "1e999", "1e999999999", "8/nan"],
)
def test_not_a_number(text):
    with pytest.raises(ValueError, match="is not a number; write 0.03 or 8/255"):
        number(text)


@pytest.mark.parametrize("text", ["", "1.0", "1e3", "x", "²", "9" * 5000])
def test_not_a_whole_number(text):
    assert whole(" -12 ") == -12
    with pytest.raises(ValueError, match="is not a whole number"):
        whole(text)
