"""The front door, as a user with a network of their own uses it."""

from __future__ import annotations

import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from spearshield import api
from spearshield.attacks.pgd import PGD
from spearshield.datasets.digits import Digits
from spearshield.experiment.shield import Shield, Spear
from spearshield.method import Method
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.methods.encoder_projection import EncoderProjection
from spearshield.nets.latent_projection import LatentSearchSettings
from spearshield.progress import Interrupted
from spearshield.threat import L2, Linf
from spearshield.views import Adaptive

THREAT = Linf(0.2)
SMALL = {"progress": False, "batch_size": 16}


class Own(nn.Module):
    """A network of a user's own, on 8x8 grey images in three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(128, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


@pytest.fixture(scope="module")
def data():
    """Digits 0, 1 and 2: training images and labels, test images and labels."""
    parts = []
    for split in ("train", "test"):
        digits = Digits().load(split)
        few = digits[digits.y < 3]
        parts += [few.images()[:160], few.y[:160]]
    return parts


@pytest.fixture(scope="module")
def trained(data):
    images, labels, *_ = data
    torch.manual_seed(0)
    model = Own()
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
    return model


@pytest.fixture
def model(trained):
    return trained.train()


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def unchanged(module: nn.Module, before: list[torch.Tensor]) -> bool:
    return module.training and all(map(torch.equal, weights(module), before))


def test_an_audit_reports_and_saves(model, data, tmp_path):
    before = weights(model)
    report = api.audit(model, *data[2:], threat=THREAT, limit=30, progress=False)
    assert 0 <= report.robust <= report.clean <= 1
    low, high = report.interval
    assert low <= report.robust <= high
    assert {row.images for row in report.rows} == {30}
    text = str(report)
    assert "clean accuracy" in text and "robust accuracy" in text and str(report.verdict) in text
    assert report.save(tmp_path / "audit") == tmp_path / "audit" / "report.html"
    rows = json.loads((tmp_path / "audit" / "results.json").read_text())
    assert rows[-1]["robust_acc"] == report.robust and rows[-1]["classifier"] == "Own"
    assert "data:image/png" in (tmp_path / "audit" / "report.html").read_text()
    assert unchanged(model, before)


def forms(images, labels, folder):
    """The same labelled images in every form that the front door takes."""
    pixels = (images * 255).round().to(torch.uint8)
    yield "floats", (images, labels)
    yield "bytes", (pixels, labels)
    yield "float array", (images.numpy(), labels.numpy())
    yield "channels last", (pixels.permute(0, 2, 3, 1).numpy(), labels.tolist())
    yield "no channels", (pixels[:, 0].numpy(), labels[:, None])
    yield "loader", (DataLoader(TensorDataset(images, labels), batch_size=7),)
    np.savez(folder / "x.npz", x=pixels.numpy(), y=labels.numpy())
    yield "npz", (folder / "x.npz",)
    yield "name of npz", (str(folder / "x.npz"),)


def test_every_form_of_images_gives_the_same_figures(model, data, tmp_path):
    images, labels = data[2][:20], data[3][:20]
    attack = PGD(THREAT, steps=3)
    figures = {
        name: api.audit(model, *form, attacks=[attack], views=[Adaptive()], progress=False).robust
        for name, form in forms(images, labels, tmp_path)
    }
    assert len(figures) == 8 and len(set(figures.values())) == 1, figures


def test_a_folder_of_pngs_by_class(model, data, tmp_path):
    pixels = (data[2][:12, 0] * 255).round().to(torch.uint8).numpy()
    for i, (image, label) in enumerate(zip(pixels, data[3][:12].tolist(), strict=True)):
        place = tmp_path / "png" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    wanted = api.audit(model, data[2][:12], data[3][:12], attacks=["fgsm"], threat=THREAT, **{
        "views": [Adaptive()], "progress": False})  # fmt: skip
    got = api.audit(
        model, tmp_path / "png", attacks=["fgsm"], threat=THREAT, views=[Adaptive()], progress=False
    )
    assert got.robust == wanted.robust and got.clean == wanted.clean


def test_protect_save_load(model, data, tmp_path):
    before = weights(model)
    shield = api.protect(
        model, *data[:2], threat=THREAT, steps=4, held_out=20, folder=tmp_path / "state", **SMALL
    )
    assert unchanged(model, before)
    assert isinstance(shield, Shield) and not shield.training
    assert shield.card.measured is not None and shield.card.measured.images == 20
    shield.save(tmp_path / "shield")
    card = json.loads((tmp_path / "shield" / "card.json").read_text())
    assert card["measured"]["verdict"] and card["versions"]["torch"]
    loaded = api.load(tmp_path / "shield", classifier=Own())
    x = data[2][:9]
    assert torch.equal(loaded(x), shield(x))
    assert torch.equal(loaded.purify(x), shield.purify(x))
    without = api.load(tmp_path / "shield")
    assert torch.equal(without.purify(x), shield.purify(x))
    with pytest.raises(ValueError, match="protects Own"):
        without(x)
    shield.save(tmp_path / "shield")  # again, with the same training
    other = api.protect(
        model, *data[:2], threat=THREAT, steps=1, held_out=0, folder=tmp_path / "other", **SMALL
    )
    with pytest.raises(ValueError, match="holds another saved shield"):
        other.save(tmp_path / "shield")
    for form in (x.numpy(), (x * 255).round().byte()):
        torch.testing.assert_close(shield.purify(form), shield.purify(x))
    with pytest.raises(ValueError, match="was trained on"):
        shield.purify(torch.rand(2, 1, 9, 9))


def test_the_shield_is_saved_before_its_closing_audit(model, data, tmp_path, monkeypatch):
    settings = {"threat": THREAT, "steps": 2, "held_out": 20, "folder": tmp_path / "a", **SMALL}
    settings["out"] = tmp_path / "shield"

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(api, "audit", stopped)
        with pytest.raises(KeyboardInterrupt):
            api.protect(model, *data[:2], **settings)
    assert api.load(tmp_path / "shield").card.measured is None
    api.protect(model, *data[:2], **settings)
    assert api.load(tmp_path / "shield", classifier=Own()).card.measured.images == 20


def test_attacks_take_arrays_and_8_bit_images(model, data):
    x, y = (data[2][:5] * 255).round() / 255, data[3][:5]
    attack = PGD(THREAT, steps=2)
    wanted = attack(model.eval(), x, y)
    assert torch.equal(attack(model, x.numpy(), y.numpy()), wanted)
    assert torch.equal(attack(model, (x * 255).round().byte(), y), wanted)
    with pytest.raises(ValueError, match="they must be floats"):
        attack(model, x[0], y[:1])


def test_an_audit_of_a_shield_goes_into_its_card(model, data, tmp_path):
    shield = api.protect(
        model, *data[:2], threat=THREAT, steps=1, held_out=0, folder=tmp_path, **SMALL
    )
    assert shield.card.measured is None
    report = api.audit(shield, *data[2:], limit=20, progress=False)
    assert report.worst.eps == THREAT.eps  # the shield knows its threat model
    assert shield.card.measured.robust == report.robust


TINY = {
    "cycle_adv_gan": {"width": 2},
    "ape_gan": {"width": 4},
    "dae": {"width": 4},
    "magnet": {"width": 4, "calibration_images": 16},
    "pgd_adversarial_training": {},
    "standard_training": {},
}


@pytest.mark.parametrize("name", TINY)
def test_every_defence_comes_back_as_it_was_saved(model, data, tmp_path, name):
    from spearshield.discover import find

    method = find("methods", Method, name)(**TINY[name])
    shield = api.protect(
        model, *data[:2], method=method, threat=THREAT, steps=3, held_out=0, folder=tmp_path / "s",
        **SMALL,
    )  # fmt: skip
    shield.save(tmp_path / "shield")
    loaded = api.load(tmp_path / "shield", classifier=Own())
    x = data[2][:9]
    assert torch.equal(loaded(x), shield(x))
    assert torch.equal(loaded.detection_score(x), shield.detection_score(x))


SEARCH = LatentSearchSettings(steps=2, restarts=2)


def test_a_generator_from_a_file_comes_back_without_that_file(model, data, tmp_path):
    settings = {"threat": THREAT, "held_out": 0, **SMALL}
    first = api.protect(
        model, *data[:2], method=DefenseGAN(width=2, search=SEARCH), steps=2,
        folder=tmp_path / "gan", **settings,
    )  # fmt: skip
    first.save(tmp_path / "first")
    file = str(tmp_path / "first" / "weights.safetensors")
    gan = DefenseGAN(width=2, search=SEARCH, weights=file)
    methods = {
        "search": (gan, 0),
        "encoder": (EncoderProjection(gan=gan, gan_steps=0, encoder_steps=2), 2),
    }
    shields = {
        name: api.protect(
            model, *data[:2], method=method, steps=steps, folder=tmp_path / "state" / name,
            **settings,
        )
        for name, (method, steps) in methods.items()
    }  # fmt: skip
    for name, shield in shields.items():
        shield.save(tmp_path / name)
    shutil.rmtree(tmp_path / "first")
    x = data[2][:5]
    for name, shield in shields.items():
        assert torch.equal(api.load(tmp_path / name, classifier=Own())(x), shield(x)), name
    with pytest.raises(ValueError, match="cannot be exported"):
        shields["search"].export_onnx(tmp_path / "no.onnx")


@pytest.mark.parametrize("name", ["adv_gan", "cycle_adv_gan", "uap"])
def test_learn_attack_save_load(model, data, tmp_path, name):
    spear = api.learn_attack(
        model, *data[:2], method=name, threat=THREAT, steps=2, folder=tmp_path / "s", **SMALL
    )
    assert isinstance(spear, Spear)
    x, y = data[2][:9], data[3][:9]
    x_adv = spear(model, x, y)
    assert THREAT.contains(x_adv, x).all() and not torch.equal(x_adv, x)
    spear.save(tmp_path / "spear")
    assert torch.equal(api.load(tmp_path / "spear")(model, x, y), x_adv)


def test_a_spear_knows_the_model_it_was_trained_on(model, data, tmp_path):
    spear = api.learn_attack(
        model, *data[:2], method="uap", threat=THREAT, steps=1, folder=tmp_path / "a", **SMALL
    )
    shield = api.protect(
        model, *data[:2], threat=THREAT, steps=1, held_out=0, folder=tmp_path / "b", **SMALL
    )
    views = {
        name: api.audit(victim, *data[2:], attacks=[spear], limit=8, progress=False).rows[0].view
        for name, victim in {"itself": model, "shield": shield, "other": Own()}.items()
    }
    assert views == {"itself": "adaptive", "shield": "oblivious", "other": "transferred"}


def test_a_source_without_a_gradient_is_refused_before_the_audit(model, data, tmp_path):
    class Cut(Own):
        def forward(self, x):
            return super().forward(x).detach()

    folder = tmp_path / "audit"
    arguments = {"threat": THREAT, "limit": 8, "folder": folder, "progress": False}
    with pytest.raises(ValueError, match="^Cut, a source of transferred attacks, passes no grad"):
        api.audit(model, *data[2:], transfer_from=[Own(), Cut()], **arguments)
    assert not folder.exists()


def test_ctrl_c_saves_and_the_same_call_goes_on(model, data, tmp_path, monkeypatch):
    settings = {"threat": THREAT, "steps": 6, "held_out": 0, **SMALL}
    straight = api.protect(model, *data[:2], folder=tmp_path / "straight", **settings)
    from spearshield.methods.ape_gan import APEGANLearner

    step, taken = APEGANLearner.step, []

    def interrupted(self, x, y, *, rng):
        taken.append(1)
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, x, y, rng=rng)

    monkeypatch.setattr(APEGANLearner, "step", interrupted)
    with pytest.raises(Interrupted, match="stopped after step 3 of 6"):
        api.protect(model, *data[:2], folder=tmp_path / "stopped", **settings)
    resumed = api.protect(model, *data[:2], folder=tmp_path / "stopped", **settings)
    assert len(taken) == 6
    assert all(map(torch.equal, weights(resumed), weights(straight)))


def test_a_folder_with_the_state_of_another_training_is_refused(model, data, tmp_path):
    settings = {"threat": THREAT, "steps": 1, "held_out": 0, "folder": tmp_path, **SMALL}
    api.protect(model, *data[:2], **settings)
    with pytest.raises(ValueError, match="holds the state of another training"):
        api.protect(Own(), *data[:2], **settings)


def test_an_adversarial_set(model, data, tmp_path):
    made = api.attack(model, *data[2:], attack="pgd", threat=L2(1.0), limit=10, progress=False)
    assert made.x_adv.shape == made.x.shape == (10, 1, 8, 8)
    assert (L2(1.0)).contains(made.x_adv, made.x).all()
    wrong = model.eval()(made.x_adv).argmax(1) != made.y
    assert bool((made.success >= wrong).all())
    floats, pngs = made.save(tmp_path / "set")
    assert floats.outside == pngs.outside == 0
    assert len([*(tmp_path / "set" / "png").iterdir()]) == 10


def test_onnx_gives_the_same_logits(model, data, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    shield = api.protect(
        model, *data[:2], threat=THREAT, steps=2, held_out=0, folder=tmp_path / "s", **SMALL
    )
    shield.export_onnx(tmp_path / "shield.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "shield.onnx"))
    for count in (1, 7):
        x = data[2][:count]
        (logits,) = session.run(None, {"images": x.numpy()})
        np.testing.assert_allclose(logits, shield(x).detach().numpy(), atol=1e-4)


class Habits(nn.Module):
    """A network that returns its logits in another form, and expects normalised images."""

    def __init__(self, own: nn.Module, form) -> None:
        super().__init__()
        self.own, self.form = own, form

    def forward(self, x):
        return self.form(self.own(x * 0.25 + 0.5))


@pytest.mark.parametrize(
    ("form", "output"),
    [
        (lambda z: z, "logits"),
        (lambda z: (z, "features"), "logits"),
        (lambda z: {"features": z[:, :1], "logits": z}, "logits"),
        (lambda z: {"only": z}, "logits"),
        (lambda z: z.softmax(1), "probabilities"),
    ],
)
def test_as_classifier_meets_the_habits_of_a_model(trained, data, form, output):
    trained.eval()
    wrapped = api.as_classifier(Habits(trained, form), mean=[0.5], std=[0.25], output=output)
    x = data[2][:9]
    torch.testing.assert_close(wrapped(x).log_softmax(1), trained(x).log_softmax(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_as_classifier_keeps_the_precision_of_the_model_inside(dtype, data):
    wrapped = api.as_classifier(Own().to(dtype))
    x = data[2][:3].requires_grad_()
    logits = wrapped(x)
    logits.sum().backward()
    assert logits.dtype == torch.float32 and x.grad is not None and x.grad.dtype == torch.float32


def test_as_classifier_of_one_output():
    z = torch.tensor([[-2.0], [0.0], [3.0]])
    logit = api.as_classifier(lambda x: z, output="binary_logit")(torch.rand(3, 1, 2, 2))
    torch.testing.assert_close(logit.softmax(1)[:, 1], z[:, 0].sigmoid())
    share = api.as_classifier(lambda x: z.sigmoid(), output="binary_probability")
    torch.testing.assert_close(share(torch.rand(3, 1, 2, 2)).softmax(1)[:, 1], z[:, 0].sigmoid())


BAD = {
    "images outside [0, 1]": ({"images": lambda x: 255 * x}, "run from 0 to"),
    "images of another shape": ({"images": lambda x: x[0, 0]}, "images have shape"),
    "too few labels": ({"labels": lambda y: y[:-1]}, "images and"),
    "labels from 1": ({"labels": lambda y: y + 1}, "label 3 .* the model has 3 .* labels - 1"),
    "negative labels": ({"labels": lambda y: y - 1}, "the smallest label is -1"),
    "one-hot labels": ({"labels": nn.functional.one_hot}, "argmax"),
    "no labels": ({"labels": lambda y: None}, "labels are missing"),
    "no threat": ({"threat": None}, "give the budget"),
    "no such attack": ({"attacks": ["pdg"]}, "no attack 'pdg'"),
    "a model of other images": (
        {"model": lambda model: nn.Linear(9, 3)},
        r"Linear fails on images of shape \(2, 1, 8, 8\)",
    ),
    "a model with maps": ({"model": lambda model: nn.Conv2d(1, 3, 3)}, "logits of shape"),
    "a device that is not there": ({"device": "cuda"}, "no CUDA device"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_said_in_one_line(model, data, case):
    changes, said = BAD[case]
    if case == "a device that is not there" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    given = {"model": model, "images": data[2][:6], "labels": data[3][:6], "threat": THREAT}
    for name, change in changes.items():
        given[name] = change(given[name]) if callable(change) else change
    with pytest.raises(ValueError, match=said):
        api.audit(**given, progress=False)


def test_methods_that_do_not_fit_the_verb_are_refused(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr("spearshield.training.loop.fit", None)  # refused before the first step
    settings = {"threat": THREAT, "steps": 1, "folder": tmp_path / "x", **SMALL}
    with pytest.raises(ValueError, match="use learn_attack"):
        api.protect(model, *data[:2], method="uap", **settings)
    with pytest.raises(ValueError, match="trains no attack"):
        api.learn_attack(model, *data[:2], method="ape_gan", **{**settings, "folder": tmp_path})
    with pytest.raises(ValueError, match="trains its attack on a classifier of its own"):
        api.learn_attack(model, *data[:2], method="l2l", **{**settings, "folder": tmp_path})


def test_an_altered_weights_file_is_refused(model, data, tmp_path):
    shield = api.protect(
        model, *data[:2], threat=THREAT, steps=1, held_out=0, folder=tmp_path / "s", **SMALL
    )
    shield.save(tmp_path / "shield")
    path = tmp_path / "shield" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match="is not the file that card.json describes"):
        api.load(tmp_path / "shield")


def test_a_card_that_names_code_runs_none_of_it(model, data, tmp_path):
    shield = api.protect(
        model, *data[:2], threat=THREAT, steps=1, held_out=0, folder=tmp_path / "s", **SMALL
    )
    shield.save(tmp_path / "shield")
    path = tmp_path / "shield" / "card.json"
    card = json.loads(path.read_text())
    card["classifier"]["architecture"] = {
        "type": "spearshield.classifiers.user:User",
        "target": "os:abort",
    }
    path.write_text(json.dumps(card))
    loaded = api.load(tmp_path / "shield")  # os.abort would end this process
    assert loaded.purify(data[2][:2]).shape == (2, 1, 8, 8)
    card["training"]["method"]["type"] = "os:system"
    path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match="is not a card of this version"):
        api.load(tmp_path / "shield")


def test_nothing_to_load(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no card.json"):
        api.load(tmp_path)
