"""The door of all other arguments of the api: budgets, names, numbers, folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch.utils.data import DataLoader, TensorDataset

import spearshield as ss
from fuzz import models, samples
from fuzz.door import Door
from fuzz.oracle import Refusal, answered, check_images, require
from spearshield.experiment.as_examples import as_examples
from spearshield.judging.trial import Trial

FGSM = ss.attacks.FGSM(ss.Linf(0.1))

THREATS = st.sampled_from(
    [
        None,
        ss.Linf(0.1),
        ss.L2(0.5),
        ss.Linf(1.0),
        ss.L2(30.0),
        0.1,
        "Linf",
        ss.Linf,
        (0.1,),
        FGSM,
        {},
    ]
)
NUMBERS = st.sampled_from(
    [
        None,
        0,
        1,
        2,
        3,
        -1,
        1000,
        1.5,
        2.0,
        "3",
        True,
        2**31,
        2**64,
        float("nan"),
        np.int64(2),
        np.float32(2),
        [],
    ]
)
DEVICES = st.sampled_from([None, "cpu", "cuda", "cpu:0", "x", "", "meta", torch.device("cpu"), 0])
VIEWS = st.sampled_from(
    [
        (),
        (ss.Adaptive(),),
        [ss.Oblivious()],
        (ss.BPDA(),),
        (ss.EOT(2),),
        ss.Adaptive(),
        ("adaptive",),
        (ss.Adaptive,),
        (None,),
    ]
)
ATTACKS = st.sampled_from(
    [
        [FGSM],
        (FGSM,),
        ["fgsm"],
        "fgsm",
        FGSM,
        [ss.attacks.FGSM],
        [None],
        [Trial(FGSM)],
        ["absent"],
        [""],
        ["spear"],
        ["shield"],
        [Path("spear")],
        iter([FGSM]),
        [FGSM, FGSM],
        [3],
        ["t.npz"],
    ]
)
MODELS = st.sampled_from(
    ["net"] * 8 + ["shield", "absent", "", "spear", "path", "none", "class", "known"]
)
SOURCES = st.sampled_from(
    ["arrays"] * 8
    + [
        "t.npz",
        "photos",
        "digits",
        "absent",
        "",
        "loader",
        "list",
        "none",
        "examples",
        "path",
        "pairs",
        "number",
    ]
)
COMMON = {"seed": NUMBERS, "device": DEVICES, "batch_size": NUMBERS, "threat": THREATS}
OPTIONS: dict[str, dict[str, Any]] = {
    "audit": COMMON
    | {
        "attacks": ATTACKS,
        "views": VIEWS,
        "limit": NUMBERS,
        "effort": st.sampled_from(["quick", "x", None, 1]),
        "transfer_from": st.sampled_from([(), ["shield"], [None], models.build()]),
        "folder": st.sampled_from(["out", "shield", "t.npz", "", Path("a/b"), 3]),
        "purifier": st.sampled_from([None, models.smooth, "smooth", 3, torch.nn.Identity()]),
        "examine": st.sampled_from([True, False, None, "x"]),
    },
    "attack": COMMON
    | {
        "attack": st.sampled_from(
            [
                "fgsm",
                FGSM,
                ss.attacks.FGSM,
                None,
                "absent",
                "spear",
                "shield",
                Trial(FGSM),
                ["fgsm"],
                3,
            ]
        ),
        "view": st.sampled_from(
            [ss.Adaptive(), "adaptive", None, ss.Adaptive, ss.EOT(2), ss.BPDA()]
        ),
        "limit": NUMBERS,
        "purifier": st.sampled_from([None, models.smooth, "smooth", 3]),
    },
    "protect": COMMON
    | {
        "method": st.sampled_from(
            ["dae", "adv_gan", "absent", "", None, ss.methods.DAE(), ss.methods.DAE, FGSM, 3]
        ),
        "training_attack": st.sampled_from(
            [None, FGSM, "fgsm", ss.attacks.FGSM, ss.attacks.FGSM(ss.L2(99.0))]
        ),
        "held_out": NUMBERS,
        "out": st.sampled_from([None, "out", "shield", "t.npz", ""]),
        "folder": st.sampled_from(["x", "shield", "t.npz", Path("y")]),
    },
    "learn_attack": COMMON
    | {
        "method": st.sampled_from(
            ["adv_gan", "dae", "uap", None, ss.methods.AdvGAN(), ss.methods.AdvGAN, 3]
        ),
        "training_attack": st.sampled_from([None, FGSM, "fgsm"]),
        "folder": st.sampled_from(["x", "shield", "t.npz"]),
    },
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "audit": {"attacks": [FGSM]},
    "attack": {"attack": FGSM},
    "protect": {"method": "dae", "steps": 1, "held_out": 0, "batch_size": 2},
    "learn_attack": {"method": "adv_gan", "steps": 1, "batch_size": 2},
}


@st.composite
def calls(draw: DrawFn) -> tuple[str, str, str, dict[str, Any]]:
    """A function of the api, a model, images, and one to three odd arguments."""
    name = draw(
        st.sampled_from(["audit", "audit", "audit", "attack", "attack", "protect", "learn_attack"])
    )
    chosen = draw(st.lists(st.sampled_from([*OPTIONS[name]]), min_size=1, max_size=3, unique=True))
    more = {option: draw(OPTIONS[name][option]) for option in chosen}
    return name, draw(MODELS), draw(SOURCES), more


def model_of(name: str) -> Any:
    """A model, or something in its place."""
    made = {
        "net": models.build,
        "none": lambda: None,
        "class": lambda: torch.nn.Linear,
        "path": lambda: Path("shield"),
    }
    if name == "known":
        return ss.load("known")
    return made[name]() if name in made else name


def source_of(name: str) -> tuple[Any, Any]:
    """Images and labels in one of their forms."""
    x, y = torch.from_numpy(samples.images()), torch.from_numpy(samples.labels())
    floats = x.float() / 255
    forms: dict[str, tuple[Any, Any]] = {
        "arrays": (x, y),
        "loader": (DataLoader(TensorDataset(floats, y), 2), None),
        "list": (floats.tolist(), y.tolist()),
        "none": (None, None),
        "examples": (as_examples(x, y), None),
        "path": (Path("t.npz"), None),
        "pairs": ([(floats[i], int(y[i])) for i in range(len(y))], None),
        "number": (3, 3),
    }
    return forms.get(name, (name, None))


def enter_call(given: tuple[str, str, str, dict[str, Any]]) -> bool:
    """Call a function of the api with odd arguments."""
    name, model, source, more = given
    samples.unpack(Path.cwd())
    network = answered(lambda: model_of(model))
    images, y = source_of(source)
    words = {**DEFAULTS[name], **more, "progress": False}
    if name in ("protect", "learn_attack"):
        words["steps"] = 1
    answer = answered(lambda: getattr(ss, name)(network, images, y, **words))
    if isinstance(answer, Refusal):
        return False
    if name == "audit":
        require(
            0 <= answer.robust <= answer.clean <= 1, "robust accuracy above accuracy", answer.worst
        )
    if name == "attack":
        check_images(answer.x_adv, "adversarial images")
    if name == "protect":
        purified = answer.purify(torch.rand(2, *answer.card.shape))
        check_images(purified, "purified images")
    return True


CALL = Door("api arguments", calls(), enter_call, weight=2)

DOORS = (CALL,)
