"""Inputs by door that the short search tries first: a good one, and those answered wrongly once."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import safetensors.torch
import torch

import spearshield as ss
from fuzz import run_doors, samples
from fuzz.arrays import Filled
from fuzz.files import chunk, drawn_picture, idx_of, npy, npz_of, png, saved_npz, zipped
from fuzz.values import Made, changed, written
from fuzz.weights import ODD_TENSORS, STATE

GREY = Filled("u1", (4, 1, 6, 6), "image")
FGSM = ss.attacks.FGSM(ss.Linf(0.1))
AUDIT = samples.AUDIT[:-1]
ROWS = zlib.compress(bytes(42))
BAD_EXIF = png((6, 6, 8, 0, 0, 0, 0), ROWS, chunk(b"eXIf", b"MM\x00*\xff\xff\xff\xff"))


def torch_file(name: str) -> tuple[str, Made]:
    """Weights of ``torch.save`` with an odd tensor."""
    content = io.BytesIO()
    torch.save({**STATE, "0.weight": ODD_TENSORS[name]()}, content)
    return ".pt", Made(f"torch {name}", content.getvalue(), whole=True)


def npz_file(array: Any, how: str) -> tuple[str, Made]:
    """Weights in an npz file with an odd array."""
    arrays = {"0.weight": array, "0.bias": STATE["0.bias"].numpy()}
    return ".npz", Made(f"npz {how}", saved_npz(arrays), whole=True)


def nested(opened: str, closed: str, depth: int) -> Made:
    """A deep JSON file."""
    return Made(f"{opened} {depth} times", (opened * depth + "1" + closed * depth).encode(), True)


def json_of(tree: Any, *path: Any, value: Any) -> Made:
    """A JSON file with one value replaced."""
    how = f"{'.'.join(map(str, path))} = {value!r}"
    return Made(how, written(changed(tree, path, lambda _: value)), whole=True)


def long_names() -> tuple[str, Made]:
    """Weights with names of thousands of letters."""
    tree = {"n" * 5000 + str(i): torch.ones(1) for i in range(5)}
    return ".safetensors", Made("long names", safetensors.torch.save(tree), whole=True)


V3 = b"\x03\x00"
WEIGHT = STATE["0.weight"].numpy()
CARD = samples.json_of("known/card.json")
SPEAR_CARD = samples.json_of("spear/card.json")
DEEP = (nested("[", "]", 5000), nested('{"type":', "}", 900), nested("[", "]", 900))
RECIPE = samples.json_of("recipe.json")


def misnamed_checkpoint() -> Made:
    """A checkpoint whose header names a tensor that it does not hold."""
    content = (samples.whole() / "spear/training/checkpoint.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    head = content[8 : 8 + size].replace(b"/state/", b"/statu/", 1)
    return Made("a tensor of another name", content[:8] + head + content[8 + size :], whole=False)


PNG = drawn_picture("L", (6, 6), "PNG")
Y = np.array([0, 1, 2, 0])
ROW = samples.json_of("results.json")
LOGITS = ("logits", "none", "module")

GOOD: dict[str, Any] = {
    "npz": (npz_of(GREY, Y), {}),
    "png and jpg": ([("a", ".png", PNG), ("b", ".png", PNG)], {}),
    "idx": (
        ".idx",
        Made("images", idx_of(Filled("u1", (4, 28, 28), "image").array()), whole=True),
        Made("labels", idx_of(Y.astype("u1")), whole=True),
    ),
    "weights": npz_file(WEIGHT, "good"),
    "recipe.json": Made("good", written(RECIPE), whole=True),
    "card.json": ("known", Made("good", written(CARD), whole=True), None),
    "results.json": Made("good", written(ROW), whole=True),
    "resumed folder": ("audit/results.json", Made("good", written(ROW), whole=True)),
    "--set": ("quickstart", ["defences.ape_gan.method.width=8"]),
    "command line": [*AUDIT, "out"],
    "arrays": (GREY, "array", Y, {}),
    "attacks": (FGSM, GREY, "tensor", Y),
    "modules": (LOGITS, {}, None),
    "purifiers": ("smooth", "none", True),
    "purify": ("folder", (".png", PNG), "purify"),
    "api arguments": ("audit", "net", "arrays", {"seed": 1}),
    "batches": ([(torch.zeros(2, 1, 6, 6), torch.tensor([0, 1]))], "list"),
    "budgets": ("Linf", 8 / 255),
    "runs": Made("good", written(run_doors.small_recipe()), whole=True),
}
"""An input of each door that is accepted."""

KNOWN: dict[str, tuple[Any, ...]] = {
    "npz": (
        (
            Made(
                "expression", zipped({"x.npy": npy("1 +" * 3000 + "1", b""), "y.npy": b""}), False
            ),
            {},
        ),
        (Made("cut at the start", npz_of(GREY, [0, 1, 2, 0]).content[2:], whole=False), {}),
        (npz_of(GREY, [0, 1, 2, 0]), {"classes": 10**8}),
        (npz_of(GREY, [0, 1, 2, 2**62]), {}),
    ),
    "png and jpg": (([("a", ".png", Made("bad EXIF", BAD_EXIF, whole=False))], {}),),
    "idx": (
        (
            ".idx",
            Made("ones", idx_of(np.ones((4, 28, 28), "u1")), whole=True),
            Made("labels", idx_of(np.zeros(4, "u1")), whole=True),
        ),
    ),
    "weights": (
        npz_file(WEIGHT.astype(">f4"), "big-endian"),
        npz_file(WEIGHT.astype("g"), "long"),
        npz_file(WEIGHT * np.nan, "nan"),
        npz_file(WEIGHT.astype("f8") * 1e300, "huge"),
        *map(torch_file, ("meta", "sparse", "csr")),
        long_names(),
    ),
    "recipe.json": (*DEEP, json_of(RECIPE, value=RECIPE | {"a\nb": 1})),
    "card.json": (
        *(("known", made, None) for made in DEEP),
        ("known", json_of(CARD, "classifier", "output", value="x"), None),
        ("known", json_of(CARD, "shape", value=[1, -6, 6]), None),
        ("known", json_of(CARD, "shape", value=[1, 10**6, 10**6]), None),
        ("known", json_of(CARD, "format", value=CARD), None),
        ("spear", json_of(SPEAR_CARD, "classifier", "output", value="x"), None),
    ),
    "results.json": (*DEEP, json_of(ROW, 0, "commit", value="\ud800")),
    "resumed folder": (
        ("spear/training/checkpoint.safetensors", misnamed_checkpoint()),
        *((name, DEEP[0]) for name in ("audit/audit.json", "shield/card.json")),
        ("shield/training/training.json", DEEP[0]),
    ),
    "command line": (
        *([*AUDIT, "out", f"--{name}=1e999"] for name in ("mean", "std", "eps")),
        *([*AUDIT, out] for out in ("t.npz", "x" * 300)),
        *(["report", "results.json", "--out", out] for out in ("t.npz", "x" * 300)),
        [*AUDIT, "out", "--classes=100000000"],
        [*AUDIT, "out", "--view=in_range"],
        [*AUDIT, "out", "--weights=absent.pt"],
        [*AUDIT, "t.npz/a"],
    ),
    "arrays": (
        *((GREY, form, [0, 1, 2, 0], {}) for form in ("meta", "sparse")),
        (GREY, "array", [0, 1, 2, 2**62], {}),
        (GREY, "array", np.array([0, 1, 2, 0], np.uint64), {}),
    ),
    "attacks": (
        *((FGSM, GREY, form, np.array([0, 1, 2, 0])) for form in ("meta", "sparse", "readonly")),
        (FGSM, Filled("u1", (4, 1, 0, 6), "image"), "array", np.array([0, 1, 2, 0])),
        (FGSM, Filled("u1", (4, 0, 6, 6), "image"), "array", np.array([0, 1, 2, 0])),
    ),
    "modules": (
        *((LOGITS, {"mean": 0.5, "std": std}, FGSM) for std in (0.5, (0.5,))),
        (LOGITS, {"mean": (0.5,), "std": (None,)}, None),
        *((("logits", "none", "class"), wrap, FGSM) for wrap in (None, {})),
        *(((output, "none", "module"), {}, None) for output in ("sparse", "array of objects")),
        (LOGITS, {"mean": "x", "std": "x"}, None),
        (("logits", "none", "empty"), {}, FGSM),
        (("complex", "none", "module"), None, FGSM),
        *((("logits", "none", kind), None, FGSM) for kind in ("meta", "nothing", "list", "text")),
        *((("logits", before, "module"), None, FGSM) for before in ("float64", "wrong shape")),
        *((("stop", "none", "module"), None, attack) for attack in (None, FGSM)),
        (("logits", "none", "script"), {"mean": (0.5,) * 3, "std": (0.5,) * 3}, None),
        (("logits", "none", "meta"), {}, None),
        (("meta", "none", "module"), None, ss.attacks.FAB(ss.Linf(0.1), steps=2)),
    ),
    "api arguments": (
        *(("audit", "net", "arrays", {"seed": seed}) for seed in (None, 1.5, [], "3")),
        *(("protect", "net", "arrays", {"seed": seed}) for seed in (None, 1.5)),
        ("protect", "net", "arrays", {"held_out": None}),
        ("attack", "net", "arrays", {"limit": 2.0}),
        ("audit", "net", "arrays", {"attacks": FGSM}),
        *(("attack", "net", "arrays", {"attack": one}) for one in (None, ss.attacks.FGSM)),
        ("learn_attack", "net", "arrays", {"method": ss.methods.AdvGAN}),
        ("attack", "net", "arrays", {"view": "adaptive"}),
        ("attack", "net", "arrays", {"batch_size": None}),
        *(("audit", "net", "arrays", {"views": (view,)}) for view in (ss.Adaptive, None)),
        ("audit", "net", "arrays", {"threat": ss.Linf}),
        ("learn_attack", "net", "none", {}),
    ),
    "batches": (([[None, -1]], "list"), ([["a", 0]], "list"), ([(b"x", {})], "generator")),
    "budgets": (("L2", 10**400),),
    "runs": (json_of(RECIPE, "weights", value="x"),),
}
