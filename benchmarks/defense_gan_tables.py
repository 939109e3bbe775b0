"""The tables of docs/results/defense_gan_mnist, in the layout of the paper, as Markdown.

    python benchmarks/defense_gan_tables.py RUN ...

Each RUN is a run of the recipe ``defense_gan_mnist`` with one model, or an evaluation of one of its
defences. All tables are of the first seed, except the table of seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from markdown_tables import spread

from spearshield.judging import results
from spearshield.judging.results import WORST_CASE, Row

ATTACKS = {
    ("fgsm", 0.3): "FGSM, 0.3",
    ("rand_fgsm", 0.3): "RAND+FGSM, 0.3 / 0.05",
    ("carlini_wagner", 4.0): "Carlini-Wagner, L2 4.0",
}
ADAPTIVE = {
    ("pgd", "adaptive"): "PGD-40, exact gradient (of a search: of its last steps)",
    ("pgd", "bpda"): "PGD-40, BPDA identity",
    ("pgd", "bpda(approximation)"): "PGD-40, BPDA through the encoder",
    ("latent_search", "in_range"): "search in the range of G",
    ("orthogonal_pgd", "detector_aware"): "orthogonal PGD, against the detector",
    (WORST_CASE, WORST_CASE): "**worst case**",
}


def defence(row: Row) -> str:
    """The defence, as the paper calls it."""
    training: dict[str, Any] = row.parameters["training"]
    method = training["method"]
    kind = method["type"].rpartition(":")[2]
    if kind == "DefenseGAN":
        return "Orig" if method["classifier"] == "given" else "Rec"
    if kind == "PGDAdversarialTraining":
        return f"adversarial training, {training['learn_from']['threat']['eps']}"
    return {
        "MagNet": "MagNet",
        "EncoderProjection": "Orig, fast",
        "StandardTraining": "no defence",
    }[kind]


def model(row: Row) -> str:
    return row.classifier.rpartition("_")[2].upper()


def substitute(row: Row) -> str:
    network: str = row.parameters["attack"]["training"]["method"]["network"]["type"]
    return network[-1]


def share(row: Row) -> str:
    return f"{100 * row.robust_acc:.1f}"


def oblivious(rows: list[Row]) -> list[str]:
    """The paper's tables 4 and 5: attacks on the bare classifier."""
    own = [row for row in rows if (row.attack, row.eps) in ATTACKS]

    def on_bare_classifier(row: Row) -> bool:
        return row.view == "oblivious" or defence(row) in BARE

    return table(
        ("attack", "model"),
        [row for row in own if on_bare_classifier(row)],
        lambda row: (ATTACKS[row.attack, row.eps], model(row)),
    )


def black_box(rows: list[Row]) -> list[str]:
    """The paper's tables 1 and 2: attacks on substitutes, which are trained on labels only."""
    own = [row for row in rows if row.attack.startswith("substitute")]
    return table(("model / substitute",), own, lambda row: (f"{model(row)} / {substitute(row)}",))


def adaptive(rows: list[Row]) -> list[str]:
    """Accuracy under adaptive attacks, on 100 images (Carlini-Wagner: 200)."""
    own = [row for row in rows if (row.attack, row.view) in ADAPTIVE]
    order = [*ADAPTIVE]
    own.sort(key=lambda row: (model(row), -len(row.threat), order.index((row.attack, row.view))))

    def key(row: Row) -> tuple[str, ...]:
        budget = f"{'L-inf' if row.threat == 'Linf' else 'L2'} {row.eps:g}"
        return model(row), budget, ADAPTIVE[row.attack, row.view]

    return table(("model", "budget", "attacker"), own, key, clean=False)


BARE = ("no defence", "adversarial training, 0.3", "adversarial training, 0.15")
COLUMNS = ("no defence", "Rec", "Orig", "Orig, fast", "MagNet", *BARE[1:])


def table(
    heads: Iterable[str],
    rows: list[Row],
    key: Callable[[Row], tuple[str, ...]],
    clean: bool = True,
) -> list[str]:
    lines: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        line = lines.setdefault(key(row), {})
        line[defence(row)] = min(row, line.get(defence(row), row), key=lambda row: row.robust_acc)
    columns = [name for name in COLUMNS if any(name in line for line in lines.values())]
    whole = [*heads, *(["no attack, no defence"] if clean else []), *columns]
    named = len([*heads])
    rule = ["---"] * named + ["---:"] * (len(whole) - named)
    found = [whole, rule]
    for name, line in lines.items():
        cells = [share(line[column]) if column in line else "" for column in columns]
        bare = line.get("no defence")
        first = [f"{100 * bare.acc:.1f}" if bare else ""] if clean else []
        found.append([*name, *first, *cells])
    return ["| " + " | ".join(cells) + " |" for cells in found]


def clean_accuracy(rows: list[Row]) -> list[str]:
    """Clean accuracy behind each defence, and the AUC of detection."""
    own = [row for row in rows if row.attack == "fgsm" and row.eps == 0.3]
    lines = ["| model | defence | clean | AUC of detection, FGSM |", "|---|---|---:|---:|"]
    for row in own:
        auc = f"{row.auc:.3f}" if row.auc is not None else ""
        lines.append(f"| {model(row)} | {defence(row)} | {100 * row.acc:.1f} | {auc} |")
    return lines


def seeds(rows: list[Row]) -> list[str]:
    """Mean, minimum and maximum over seeds; the worst case is under adaptive attacks."""
    cells: dict[tuple[str, str], dict[tuple[str, float, str], list[Row]]] = {}
    for row in rows:
        attacked = (row.attack, row.eps, row.view)
        cells.setdefault((model(row), defence(row)), {}).setdefault(attacked, []).append(row)
    lines = [
        "| model | defence | seeds | clean | FGSM, 0.3 | worst, L-inf 0.3 | worst, L2 4 |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for (name, protected), attacked in cells.items():
        fgsm = attacked.get(("fgsm", 0.3, "oblivious"), [])
        if len(fgsm) < 2:
            continue
        worst = [attacked[WORST_CASE, eps, WORST_CASE] for eps in (0.3, 4.0)]
        left = [[row.robust_acc for row in found] for found in (fgsm, *worst)]
        shares = " | ".join(spread(share) for share in ([row.acc for row in fgsm], *left))
        lines.append(f"| {name} | {protected} | {len(fgsm)} | {shares} |")
    return lines


if __name__ == "__main__":
    rows = [row for run in sys.argv[1:] for row in results.read(Path(run) / "results.json")]
    first = [row for row in rows if row.seed == rows[0].seed]
    for make, shown in (
        (clean_accuracy, first),
        (oblivious, first),
        (black_box, first),
        (adaptive, first),
        (seeds, rows),
    ):
        print(f"\n{make.__doc__}\n")
        print("\n".join(make(shown)))
