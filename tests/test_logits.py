"""The outputs of classifiers in the forms in which users have them, through every door."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fixtures.models import Affine, Apply
from mutations import fails_under
from spearshield import api
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.square import Square
from spearshield.experiment.subject import for_model
from spearshield.inputs import guarded
from spearshield.logits import as_logits, check_kind
from spearshield.nets import wrapped_classifier
from spearshield.threat import Linf

THREAT = Linf(0.1)
X = (torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
MODEL = Affine(3).eval()
Y = MODEL(X).argmax(1)


@dataclass
class Answer:
    hidden: Tensor
    logits: Tensor


class ModelOutput(OrderedDict):
    pass


Pair = namedtuple("Pair", "hidden logits")

FORMS = {
    "tensor": lambda z: z,
    "tuple": lambda z: (z, "features"),
    "loss first": lambda z: (z.sum(), z),
    "list": lambda z: [z],
    "mapping": lambda z: {"hidden": z[:, :1], "logits": z},
    "one entry": lambda z: {"out": z, "names": "abc"},
    "ordered": lambda z: ModelOutput(loss=z.sum(), logits=z),
    "dataclass": lambda z: Answer(z[:, :1], z),
    "named tuple": lambda z: Pair(z[:, :1], z),
    "maps of one pixel": lambda z: z[:, :, None, None],
    "squeezed": lambda z: z.squeeze(0),
    "double": lambda z: z.double(),
    "sparse": lambda z: z.to_sparse(),
    "bfloat16": lambda z: z.bfloat16(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 6])
def test_every_form_gives_the_same_logits(form, count):
    x, model = X[:count], Apply(lambda x: FORMS[form](MODEL(x))).eval()
    tolerance = {"atol": 0.05, "rtol": 0} if form == "bfloat16" else {}
    torch.testing.assert_close(api.as_classifier(model)(x), MODEL(x), **tolerance)
    with guarded(model) as same:
        torch.testing.assert_close(same(x), MODEL(x), **tolerance)


@pytest.mark.parametrize("form", ["tuple", "dataclass", "maps of one pixel", "double"])
def test_a_bare_attack_takes_the_forms_too(form):
    model = Apply(lambda x: FORMS[form](MODEL(x))).eval()
    assert torch.equal(FGSM(THREAT)(model, X, Y), FGSM(THREAT)(MODEL, X, Y))


@pytest.mark.parametrize("form", [np.asarray, lambda z: (100 * z).long(), lambda z: z.tolist()])
def test_outputs_without_a_gradient(form):
    model = api.as_classifier(lambda x: form(MODEL(x).detach()))
    if isinstance(form(MODEL(X).detach()), list):
        with pytest.raises(ValueError, match="returns list; it must return a tensor of logits"):
            model(X)
        return
    assert torch.equal(model(X).argmax(1), Y)
    assert Square(THREAT, queries=2)(model, X, Y).shape == X.shape
    with pytest.raises(ValueError, match="no gradient reaches the images"):
        FGSM(THREAT)(model, X, Y)


@pytest.mark.filterwarnings("ignore:.*quantiz")
def test_a_quantised_network_is_judged():
    layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    model = torch.ao.quantization.quantize_dynamic(layers, {nn.Linear})
    attack = Square(THREAT, queries=2)
    assert len(api.audit(model, X, Y, attacks=[attack], progress=False).rows) == 2


WRONG = {
    "one number": (lambda z: z[:, :1], r"returned shape \(6, 1\); .*output='binary_logit'"),
    "classes": (lambda z: z.argmax(1), r"returned shape \(6,\); .*before the argmax"),
    "maps": (lambda z: z[:, :, None].expand(6, 3, 4), r"returned shape \(6, 3, 4\); return one"),
    "another batch": (lambda z: z[:2], r"for 6 images it returned shape \(2, 3\)"),
    "nothing": (lambda z: None, "returns NoneType; it must return a tensor"),
    "text": (lambda z: "cat", "returns str; it must return a tensor"),
    "meta": (lambda z: z.to("meta"), "on the device meta, which has no values"),
    "objects": (lambda z: np.array([None] * len(z)), "returns ndarray; it must return"),
    "complex": (lambda z: z.to(torch.complex64), "complex64; logits must be real"),
    "two entries": (lambda z: {"a": z, "b": z}, "a mapping with a, b; it needs an entry 'logits'"),
    "probabilities": (lambda z: z.softmax(1), "returns probabilities .*output='probabilities'"),
    "half": (lambda z: z.softmax(1).half(), "returns probabilities"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_other_outputs_are_refused_by_every_door(wrong):
    form, said = WRONG[wrong]
    said = said.replace("for 6 images", "for . images").replace(r"\(6,", r"\(.,")
    model = Apply(lambda x: form(MODEL(x)[: len(x)])).eval()
    if wrong in ("maps", "another batch"):
        with pytest.raises(ValueError, match=said):
            api.as_classifier(model)(X)
        return
    images = {"threat": THREAT, "progress": False}
    doors = (
        lambda: FGSM(THREAT)(model, X, Y),
        lambda: api.as_classifier(model)(X),
        lambda: api.audit(model, X, Y, **images),
        lambda: api.attack(model, X, Y, **images),
        lambda: api.protect(model, X, Y, steps=1, **images),
        lambda: api.learn_attack(model, X, Y, steps=1, method="uap", **images),
    )
    for door in doors:
        with pytest.raises(ValueError, match=said):
            door()


KINDS = {
    "negative": ("probabilities", lambda z: z, "from -.* not probabilities; use output='logits'"),
    "positive": ("probabilities", lambda z: z.exp(), "whose rows do not sum to one"),
    "sigmoids": ("probabilities", lambda z: z.sigmoid(), "whose rows do not sum to one"),
    "binary": ("binary_probability", lambda z: 9 * z[:, 0], "use output='binary_logit'"),
}


@fails_under(
    "outputs of another kind accepted",
    (wrapped_classifier, "check_kind", lambda *_: None),
    kind="negative",
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_call_verifies_the_kind_of_output(kind):
    output, form, said = KINDS[kind]
    model = api.as_classifier(lambda x: form(MODEL(x)), output=output)
    with pytest.raises(ValueError, match=said):
        model(X)


def test_kinds_that_fit_are_accepted():
    z = MODEL(X)
    check_kind(z, X, "logits")
    check_kind(z.softmax(1).half(), X, "probabilities")
    check_kind(z * torch.nan, X, "probabilities")
    check_kind(z[:, 0].sigmoid(), X, "binary_probability")
    check_kind(z.log_softmax(1), X, "logits")
    assert as_logits(z[:1, 0], X[:1], "binary_logit").shape == (1, 2)
    assert as_logits(torch.tensor(3.0), X[:1], "binary_logit").tolist() == [[0.0, 3.0]]


@pytest.mark.parametrize("classes", [2, 5, 5000])
def test_the_classes_are_the_outputs_of_the_model(classes):
    labels = torch.arange(6) % 2
    model = Affine(classes)
    report = api.audit(model, X, labels, attacks=[FGSM(THREAT)], progress=False)
    assert report.clean == pytest.approx(float((model(X).argmax(1) == labels).float().mean()))
    from spearshield.experiment.as_examples import as_examples

    assert for_model(model, as_examples(X, labels)).classes == classes
    for door in (FGSM(THREAT), lambda *given: api.audit(*given, threat=THREAT, progress=False)):
        with pytest.raises(
            ValueError, match=f"label {classes} is out of range: the model has {classes}"
        ):
            door(model, X, torch.full((6,), classes))


@pytest.mark.parametrize("mean", ["x", (None,), (), [torch.nan], 127, [[0.1], "x"]])
def test_a_normalisation_without_numbers_is_refused(mean, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="mean and std|mean must be in"):
        api.as_classifier(MODEL, mean=mean, std=0.5)


@pytest.mark.parametrize("mean", [0.5, 0, [0.5], np.array([0.5]), torch.tensor(0.5)])
def test_a_normalisation_in_every_form(mean):
    wrapped = api.as_classifier(MODEL, mean=mean, std=1 / 255)
    torch.testing.assert_close(wrapped(X), MODEL((X - float(torch.as_tensor(mean))) * 255))


def lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3)).eval()


NOT_MODELS = {
    "a class": (Affine, r"Affine is a class; give an instance, as Affine\(\)"),
    "nothing": (None, "got NoneType"),
    "an object": (X, "got Tensor; wrap its prediction"),
    "meta": (Affine(3).to("meta"), "weight is on the device meta"),
    "lazy": (lazy(), "1.weight is lazy and has no values yet"),
}


@pytest.mark.parametrize("name", NOT_MODELS)
def test_a_model_without_values_is_refused_by_every_door(name, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model, said = NOT_MODELS[name]
    images = {"threat": THREAT, "progress": False}
    doors = (
        lambda: FGSM(THREAT)(model, X, Y),
        lambda: api.as_classifier(model),
        lambda: api.audit(model, X, Y, **images),
        lambda: api.attack(model, X, Y, **images),
        lambda: api.protect(model, X, Y, steps=1, **images),
        lambda: api.learn_attack(model, X, Y, steps=1, method="uap", **images),
        lambda: api.audit(MODEL, X, Y, transfer_from=[model], **images),
    )
    for door in doors:
        with pytest.raises(ValueError, match=said):
            door()


def test_a_layer_in_training_mode_is_named():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3))
    with pytest.warns(UserWarning, match=r"1 \(Dropout\) is in training mode.*call .eval\(\)"):
        FGSM(THREAT)(model, X, Y)
    assert model.training and model[1].training
    api.audit(model, X, Y, attacks=[FGSM(THREAT)], progress=False)
    assert model.training and model[1].training
