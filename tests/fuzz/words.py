"""Words of command lines: values of ``--set``, options, and commands that work."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz.values import texts
from spearshield import discover


def one_of(words: str) -> SearchStrategy[str]:
    """One of the texts between bars; empty texts count."""
    return st.sampled_from(words.split("|"))


NUMBERS = (
    "0|1|-1|0.5|2.5|1e9|1e999|nan|inf|1_000|0x10|8/255|1/0|1e-320|99999999999999999999|٣| 4 |+3|"
    "1,2|1,|,|none|true|False|[]|()"
)
NAMES = [name for kind in discover.PACKAGES for name in discover.names(kind)]
VALUES = (
    one_of(NUMBERS)
    | st.sampled_from(NAMES)
    | one_of(
        "eot(10)|eot(0)|eot(|eot)|bpda(stand_in)|Linf|L2|timm:resnet18|torchvision:|train|"
        "fuzz.models:build|fuzz.models:|:build|.|..|/|photos|t.npz"
    )
    | texts
)
"""Values of a field."""

OPTIONS: dict[str, SearchStrategy[Any]] = {
    "--eps": one_of(f"{NUMBERS}|0.1|8/255|8|2|300|1e-9|0.3.1|8//255|1/-3|1e-400") | texts,
    "--threat": one_of("Linf|L2|linf|L0||inf|Linf(0.1)|ThreatModel"),
    "--size": one_of("6x6|6|6X6|0x6|6x6x6|-6x6|6x|²x6|1000000x1000000|x|3x9|"),
    "--view": one_of(
        "adaptive|oblivious|bpda|eot|eot(2)|eot(0)|eot(-1)|eot(x)|EOT|bpda(stand_in)|bpda()|"
        "detector_aware|in_range|transferred||("
    ),
    "--images": one_of("1|3|0|-1|1000|1.5|x|99999999999999999999"),
    "--classes": one_of("3|1|0|-1|10|100000000|2|x"),
    "--mean": one_of("0.5|0.5,0.5||x|nan|0.5,|1e999|0,0,0"),
    "--std": one_of("0.5|0|-1|0.5,0.5|nan|inf|1e-320|0.5;0.5"),
    "--output": one_of("logits|probabilities|binary_logit|binary_probability|x"),
    "--split": one_of("test|train|validation|all"),
    "--seed": one_of(f"0|1|-1|99999999999999999999|1.5|{2**63}|{2**64}"),
    "--device": one_of("cpu|auto|cuda|mps|cpu:0|meta"),
    "--data": one_of(
        "t.npz|t.npz|photos|digits|w.npz|absent.npz||.|shield|npz|image_folder|t.npz/x|/dev/null"
    ),
    "--classifier": one_of(
        "fuzz.models:build|fuzz.models:build|fuzz.models:fails|fuzz.models:not_a_network|"
        "fuzz.models:absent|fuzz.models|absent:x|m_cnn|lenet|timm:|torchvision:resnet18|"
        "timm:resnet18|fuzz.models:SHAPE||:|a b:c|fuzz.models:build:x|user|json:loads|"
        "fuzz..models:x|.:x|math:pi|fuzz.models:Odd|torch.nn:Linear|torch.nn:Identity"
    ),
    "--weights": one_of("w.npz|absent.pt||t.npz|photos|w.txt|.|shield/weights.safetensors"),
    "--purifier": one_of(
        "fuzz.models:smooth|fuzz.models:fails|fuzz.models:build|fuzz.models:not_a_network|absent:x||"
        "math:pi|math:sqrt|json:loads|torch:relu|builtins:list|builtins:print|torch.nn:Identity"
    ),
    "--purifier-weights": one_of("w.npz|absent.pt|"),
    "--effort": one_of("quick|slow"),
    "--min-robust-acc": one_of("0.5|1.5|nan|50%|-0|x"),
    "--data-dir": one_of(".|absent|t.npz|"),
    "--set": one_of(
        "attack.steps=1|attack.x=1|view.samples=2|steps=1|attack=pgd|x|=|attack.threat=Linf|"
        "attack.threat.eps=0.2|attack.threat.eps=nan|view=eot|method.width=2|method.width=0"
    ),
    "--transfer-from": one_of("shield|absent|t.npz|."),
    "--format": one_of("npz|safetensors|png"),
    "--out": one_of(f"out|out|out|t.npz|shield||a/b/c|out\x00|{'x' * 300}|t.npz/a|."),
    "--attack": one_of("fgsm|bim|random||spear|shield|t.npz|FGSM|deepfool|fgsm"),
    "--steps": one_of("0|1|-1|x"),
    "--batch-size": one_of("2|0|-1|1|1000"),
    "--held-out": one_of("0|-1|1000|3"),
    "--method": one_of("dae|ape_gan|adv_gan|absent||uap"),
    "--require-valid": st.none(),
    "--unknown": st.none(),
}

_OWN = [f"--{name}" for name in ("eps", "threat", "size", "images", "classes", "mean", "std")]
_OWN += [f"--{name}" for name in ("output", "split", "seed", "device", "data", "classifier")]
_OWN += [f"--{name}" for name in ("weights", "data-dir", "out", "attack", "set")]
_FOLDER = ["--seed", "--device", "--data-dir", "--out", "--set"]
_DEFENCE = ["--view", "--purifier", "--purifier-weights"]
_GATE = ["--effort", "--min-robust-acc", "--transfer-from", "--require-valid"]
_NETWORK = "--classifier fuzz.models:build --data t.npz"
_FGSM = "--attack fgsm --eps 0.1 --out out"
_SHORT = "--steps 1 --batch-size 2 --out out"

COMMANDS: dict[str, tuple[str, list[str]]] = {
    "audit": (f"{_NETWORK} {_FGSM}", [*_OWN, *_DEFENCE, *_GATE]),
    "audit shield": (f"{_NETWORK} {_FGSM}", [*_OWN, *_DEFENCE, *_GATE]),
    "attack": (f"{_NETWORK} {_FGSM}", [*_OWN, *_DEFENCE, "--format"]),
    "protect": (
        f"{_NETWORK} --method dae --held-out 0 {_SHORT}",
        [*_OWN, "--steps", "--batch-size", "--held-out", "--method"],
    ),
    "learn-attack": (
        f"{_NETWORK} --method adv_gan {_SHORT}",
        [*_OWN, "--steps", "--batch-size", "--method"],
    ),
    "purify shield": ("t.npz out", ["--device", "--seed", "--data-dir", "--classifier", "--set"]),
    "run quickstart": ("--dry-run", _FOLDER),
    "run recipe.json": ("--dry-run", _FOLDER),
    "train quickstart": ("--dry-run", _FOLDER),
    "report": ("results.json --out out", ["--out"]),
    "list": ("attacks", ["--unknown"]),
    "show": ("fgsm", ["--unknown"]),
}
"""Commands that work, and the options that they take."""

SHORT = {
    "audit": "--attack=fgsm",
    "protect": "--steps=1",
    "learn-attack": "--steps=1",
    "run": "--dry-run",
    "train": "--dry-run",
}
"""An option without which a command takes long."""

LOOSE = one_of(
    f"|absent|t.npz|shield|.|photos|-|--|digits|a/b|/|{'x' * 300}|--eps|\ud800|a\nb|\x00"
)
"""Words that are no options."""
