"""Strategies of JSON values, text and bytes, and of their mutations."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from zlib import crc32

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

ODD_NUMBERS = (0, 1, -1, 2, 0.5, 1.5, -0.0, 1e-320, 1e308, 1e400, -1e400, 10**6, 10**12, 2**63)
ODD_NUMBERS_LARGE = (2**64, 10**400, float("nan"))
ODD_TEXTS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1e9",
        "nan",
        "inf",
        "none",
        "None",
        "true",
        "8/255",
        "1/0",
        "..",
        "a\nb",
    ),
    *(
        "\x00",
        "\ud800",
        "ü",
        "𝔘",
        "fgsm",
        "Linf",
        "os:abort",
        "os:",
        ":",
        "$tensor",
        "%s",
        "<script>alert(1)</script>",
    ),
    *(
        "spearshield.threat:Linf",
        "spearshield.attacks.fgsm:FGSM",
        "builtins:list",
        "x" * 300,
        "[b]",
    ),
)

numbers = st.sampled_from([*ODD_NUMBERS, *ODD_NUMBERS_LARGE]) | st.integers(-300, 300) | st.floats()
texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=8)
scalars = st.none() | st.booleans() | numbers | texts
json_values: SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


class Made(NamedTuple):
    """The content of a file.

    Args:
        how: How it was made.
        content: Its bytes.
        whole: The file is whole: a program that writes this format could have written it.
    """

    how: str
    content: bytes
    whole: bool

    def __repr__(self) -> str:
        return f"Made({self.how}, {len(self.content)} bytes, {crc32(self.content):08x})"


def paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a tree of JSON."""
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    return [path, *(inner for key, value in items for inner in paths(value, (*path, key)))]


def at(tree: Any, path: tuple[Any, ...]) -> Any:
    """The value at a path."""
    for step in path:
        tree = tree[step]
    return tree


def changed(tree: Any, path: tuple[Any, ...], change: Any) -> Any:
    """A copy of a tree with ``change(value)`` at a path; a change to ``...`` deletes the value."""
    if not path:
        return change(tree)
    first, *rest = path
    new = changed(tree[first], tuple(rest), change)
    if isinstance(tree, dict):
        return {
            k: (new if k == first else v) for k, v in tree.items() if k != first or new is not ...
        }
    return [new if i == first else v for i, v in enumerate(tree) if i != first or new is not ...]


@st.composite
def mutated(draw: DrawFn, trees: SearchStrategy[Any]) -> tuple[str, Any]:
    """A tree of JSON with one to three values replaced, deleted, copied, nested or renamed."""
    tree, how = draw(trees), []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        places = paths(tree)
        leaves = [p for p in places if isinstance(at(tree, p), (int, float, str))] or places
        kind = draw(st.sampled_from(["replace", "delete", "nest", "add", "swap", *["scale"] * 6]))
        path = draw(st.sampled_from(leaves if kind == "scale" else places))
        old = at(tree, path)
        if kind == "delete" and path:
            tree, new = changed(tree, path, lambda _: ...), ...
        elif kind == "swap":
            new = at(tree, draw(st.sampled_from(paths(tree))))
        elif kind == "nest":
            new = [old] if draw(st.booleans()) else {draw(texts): old}
        elif kind == "add" and isinstance(old, dict):
            new = old | {draw(texts): draw(json_values)}
        elif kind == "add" and isinstance(old, list):
            new = [*old, draw(json_values)]
        elif kind == "scale" and isinstance(old, float):
            new = draw(
                st.sampled_from([-old, old * 1e4, old / 3, str(old), 0.0, 1e-320, 1e308])
                | st.floats()
            )
        elif kind == "scale" and isinstance(old, int):
            new = draw(
                st.sampled_from([-old, old * 1000, not old, str(old), float(old), 0, 1, 10**12])
            )
        elif kind == "scale" and isinstance(old, str):
            others = [at(tree, p) for p in places if isinstance(at(tree, p), str)]
            new = draw(st.sampled_from([*others, old.upper(), old + " ", old + "x"]) | texts)
        else:
            new = draw(json_values)
        if new is not ...:
            tree = changed(tree, path, lambda _, new=new: new)
        how.append(f"{kind} {'.'.join(map(str, path)) or 'all'}: {new!r:.120}")
    return "; ".join(how), tree


def written(tree: Any) -> bytes:
    """A tree as a JSON file, also where it is not JSON: NaN, infinite numbers, lone surrogates."""
    return json.dumps(tree).encode("utf-8", "surrogatepass")


@st.composite
def spoilt(draw: DrawFn, content: bytes, where: int | None = None) -> tuple[str, bytes]:
    """Bytes with one to four of them changed, removed or added, or cut.

    Args:
        where: Changes are within so many bytes from the start; ``None``: anywhere.
    """
    how = []
    for _ in range(draw(st.integers(1, 4))):
        last = max(0, min(len(content), where or len(content)) - 1)
        i = draw(st.integers(0, last))
        kind = draw(st.sampled_from(["flip", "set", "cut", "insert", "remove", "repeat", "zero"]))
        j = draw(st.integers(0, 16))
        how.append(f"{kind} {i},{j}")
        if kind == "flip" and content:
            content = content[:i] + bytes([content[i] ^ (1 << j % 8)]) + content[i + 1 :]
        elif kind == "set":
            content = content[:i] + bytes([(0, 255, 127, 128, 1)[j % 5]]) + content[i + 1 :]
        elif kind == "cut":
            content = content[:i]
        elif kind == "insert":
            content = content[:i] + draw(st.binary(max_size=8)) + content[i:]
        elif kind == "remove":
            content = content[:i] + content[i + j :]
        elif kind == "repeat":
            content = content[: i + j] + content[i:]
        else:
            content = content[:i] + bytes(j) + content[i + j :]
    return ", ".join(how), content


@st.composite
def json_files(draw: DrawFn, trees: SearchStrategy[Any]) -> Made:
    """JSON files: of mutated trees, with changed bytes, in other encodings, and other bytes."""
    kind = draw(st.sampled_from(["tree"] * 6 + ["bytes", "encoding", "deep", "raw", "value"]))
    if kind == "tree":
        how, tree = draw(mutated(trees))
        return Made(how, written(tree), whole=True)
    good = written(draw(trees))
    if kind == "bytes":
        how, content = draw(spoilt(good))
        return Made(how, content, whole=False)
    if kind == "encoding":
        name = draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig", "cp037", "utf-7"]))
        return Made(f"in {name}", good.decode().encode(name), whole=False)
    if kind == "deep":
        depth = draw(st.sampled_from([50, 900, 5_000, 100_000]))
        opened, closed = draw(st.sampled_from([("[", "]"), ('{"type":', "}"), ('{"a":[', "]}")]))
        whole = opened * depth + "1" + closed * depth
        return Made(f"{opened} {depth} times", whole.encode(), whole=True)
    if kind == "value":
        value = draw(json_values)
        return Made(f"{value!r:.100}", written(value), whole=True)
    raw = draw(st.binary(max_size=40) | st.just(b"9" * 5000) | st.just(b'{"a":1,"a":2}'))
    return Made(f"raw {raw[:40]!r}", raw, whole=False)
