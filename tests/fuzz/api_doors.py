"""The doors of the api: arrays and labels, models, and files that are purified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

import spearshield as ss
from fuzz import files, models, samples
from fuzz.arrays import TENSOR_KINDS, Filled, filled, in_form, labels
from fuzz.door import Door
from fuzz.oracle import (
    Refusal,
    answered,
    check_examples,
    check_images,
    check_pixels,
    command,
    require,
)
from fuzz.values import Made
from spearshield.adversary import Attack
from spearshield.experiment.as_examples import as_examples


def enter_arrays(given: tuple[Filled, str, Any, dict[str, Any]]) -> bool:
    """Turn arrays into examples."""
    array, form, y, more = given
    images = in_form(array.array(), form)
    before = (
        images.copy() if isinstance(images, np.ndarray) and images.dtype.kind in "fiu" else None
    )
    answer = answered(lambda: as_examples(images, y, **more))
    if before is not None:
        require(
            bool(np.array_equal(before, images, equal_nan=True)), "the caller's images were changed"
        )
    if isinstance(answer, Refusal):
        return False
    check_examples(answer)
    if isinstance(images, Tensor) and images.is_floating_point() and images.layout == torch.strided:
        images = images.detach().double().numpy()
    if isinstance(images, np.ndarray):
        require(images.dtype.kind in "fu", "an array of another type was accepted", images.dtype)
        inside = images.dtype.kind == "u" or bool(((images >= 0) & (images <= 1)).all())
        require(inside, "floats outside [0, 1] were accepted", array)
        if not more.get("limit"):
            check_pixels(answer.pixels, images)
    return True


ARRAYS = Door(
    "arrays",
    st.tuples(
        filled,
        st.sampled_from([*TENSOR_KINDS[:4] * 4, *TENSOR_KINDS]),
        labels(),
        st.fixed_dictionaries(
            {},
            optional={
                "limit": st.sampled_from([0, 1, 2, 100, -1]),
            },
        ),
    ),
    enter_arrays,
    weight=4,
)

CHEAP: tuple[Attack, ...] = (
    ss.attacks.FGSM(ss.Linf(0.1)),
    ss.attacks.FGSM(ss.L2(0.5)),
    ss.attacks.PGD(ss.Linf(0.1), steps=2),
    ss.attacks.BIM(ss.Linf(0.3), steps=2),
    ss.attacks.DeepFool(ss.L2(0.5)),
    ss.attacks.FAB(ss.Linf(0.1), steps=2),
    ss.attacks.Square(ss.Linf(0.1), queries=3),
)


def check_attacked(attack: Attack, x_adv: object, x: Tensor) -> None:
    """Raise a ``Fault`` unless attacked images are images inside the budget."""
    check_images(x_adv, "attacked images")
    assert isinstance(x_adv, Tensor)
    require(x_adv.shape == x.shape, "attacked images of another shape", x_adv.shape)
    inside = bool(attack.threat.contains(x_adv.double(), x.double()).all()) if len(x) else True
    require(inside, f"{type(attack).__name__} leaves its budget", attack.threat)


def enter_attack(given: tuple[Attack, Filled, str, Any]) -> bool:
    """Call an attack with odd images and labels."""
    attack, array, form, y = given
    images = in_form(array.array(), form)
    shape = array.shape[1:] if len(array.shape) == 4 and min(array.shape[1:]) > 0 else models.SHAPE
    network = models.build(shape)
    answer = answered(lambda: attack(network, images, y))
    require(all(w.grad is None for w in network.parameters()), "gradients are left in the weights")
    if isinstance(answer, Refusal):
        return False
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.array(images, images.dtype.newbyteorder("=")))
    clean = torch.as_tensor(images).detach().to_dense()
    clean = clean.dequantize() if clean.is_quantized else clean
    clean = clean.float() / 255 if clean.dtype == torch.uint8 else clean
    check_images(clean.float() if clean.is_floating_point() else clean, "accepted images")
    check_attacked(attack, answer, clean.float() if clean.itemsize < 4 else clean)
    return True


ATTACK = Door(
    "attacks",
    st.tuples(
        st.sampled_from(CHEAP),
        filled.map(lambda f: f._replace(shape=f.shape if len(f.shape) == 4 else (4, 1, 6, 6))),
        st.sampled_from([*TENSOR_KINDS[:4] * 4, *TENSOR_KINDS]),
        labels(),
    ),
    enter_attack,
    weight=4,
)

MODELS = st.tuples(
    st.sampled_from([*models.OUTPUTS]),
    st.sampled_from(["none"] * 6 + [*models.INPUTS]),
    st.sampled_from(["module"] * 12 + [*models.KINDS]),
)
WRAPS = st.fixed_dictionaries(
    {},
    optional={
        "mean": st.sampled_from(
            [
                (0.5,),
                [0.5],
                (0.5, 0.5, 0.5),
                (),
                0.5,
                "x",
                (torch.nan,),
                np.array([0.5]),
                torch.tensor([0.5]),
                (128,),
            ]
        ),
        "std": st.sampled_from(
            [
                (0.5,),
                [0.5],
                (0.5, 0.5, 0.5),
                (),
                0.5,
                (0,),
                (-1,),
                (torch.inf,),
                np.array([0.5]),
                (1e-45,),
                (None,),
            ]
        ),
        "output": st.sampled_from(
            ["logits", "probabilities", "binary_logit", "binary_probability", "x", None]
        ),
    },
)


def enter_model(given: tuple[tuple[str, str, str], dict[str, Any] | None, Attack | None]) -> bool:
    """Attack or audit a model of a user, as it is or through ``as_classifier``."""
    kind, wrap, attack = given
    model = models.model(*kind)
    if wrap is not None:
        model = answered(lambda: ss.as_classifier(model, **wrap))
        if isinstance(model, Refusal):
            return False
    x, y = torch.from_numpy(samples.images()), torch.from_numpy(samples.labels())
    if attack is not None:
        answer = answered(lambda: attack(model, x, y))
        if not isinstance(answer, Refusal):
            check_attacked(attack, answer, x.float() / 255)
        return not isinstance(answer, Refusal)
    chosen = [ss.attacks.FGSM(ss.Linf(0.1))]
    report = answered(lambda: ss.audit(model, x, y, attacks=chosen, progress=False))
    if isinstance(report, Refusal):
        return False
    worst = report.worst
    require(0 <= worst.robust_acc <= worst.acc <= 1, "robust accuracy above accuracy", worst)
    report.save("out")
    samples.check_results(Path("out/results.json"))
    return True


MODEL = Door(
    "modules",
    st.tuples(MODELS, st.none() | WRAPS, st.none() | st.sampled_from(CHEAP)),
    enter_model,
    weight=3,
)


def enter_purifier(given: tuple[str, str, bool]) -> bool:
    """Audit a purifier of a user in front of a classifier."""
    output, before, as_function = given
    change = models.PURIFIERS[output]
    first = models.INPUTS[before] or (lambda x: x)
    purifier: Any = lambda x: change(first(x))  # noqa: E731
    if not as_function:
        purifier = models.Purifier(purifier)
    x, y = torch.from_numpy(samples.images()), torch.from_numpy(samples.labels())
    chosen = [ss.attacks.FGSM(ss.Linf(0.1))]
    report = answered(
        lambda: ss.audit(models.build(), x, y, purifier=purifier, attacks=chosen, progress=False),
    )
    if isinstance(report, Refusal):
        return False
    require(0 <= report.robust <= report.clean <= 1, "robust accuracy above accuracy", report.worst)
    return True


PURIFIER = Door(
    "purifiers",
    st.tuples(
        st.sampled_from([*models.PURIFIERS]), st.sampled_from([*models.INPUTS]), st.booleans()
    ),
    enter_purifier,
)


def enter_purify(given: tuple[str, Any, str]) -> bool:
    """Purify or perturb an npz file or a folder of pictures."""
    kind, source, form = given
    samples.unpack(Path.cwd())
    if kind == "npz":
        path, whole = Path("in.npz"), source.whole
        path.write_bytes(source.content)
    else:
        suffix, made = source
        path, whole = Path(f"in/a{suffix}"), made.whole
        path.parent.mkdir()
        path.write_bytes(made.content)
        Path("in/b.png").write_bytes((samples.whole() / "photos/0/a.png").read_bytes())
    top = path if kind == "npz" else path.parent
    words = ["purify", "shield", str(top), "out"]
    if form == "attack":
        words = ["attack", "--attack", "spear", "--data", str(top), "--out", "out"]
    status = command(words, file=path, whole=whole)
    if isinstance(status, Refusal):
        require(not Path("out").exists(), "a refused command left a result")
        return False
    if kind == "npz":
        found = dict(np.load("out"))
        name = next(n for n in ("x_adv", "x", "images", "x_test") if n in found)
        images = np.load(path)[name]
        require(found[name].dtype == images.dtype, "another type", found[name].dtype)
        require(found[name].shape == images.shape, "another shape", found[name].shape)
        inside = found[name].dtype == np.uint8 or bool(
            ((found[name] >= 0) & (found[name] <= 1)).all()
        )
        require(inside, "purified images are not in [0, 1]")
    return True


_NPZ = files.npz_files().map(lambda made: ("npz", made))
_PICTURE = files.pictures().map(lambda pair: ("folder", pair))
PURIFY = Door(
    "purify",
    st.tuples(_NPZ | _PICTURE, st.sampled_from(["purify", "attack"])).map(lambda t: (*t[0], t[1])),
    enter_purify,
    weight=2,
)

DOORS = (ARRAYS, ATTACK, MODEL, PURIFIER, PURIFY)

_ = Made
