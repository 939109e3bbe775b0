"""The commands `list` and `show`, which read source files without importing modules."""

from __future__ import annotations

import argparse
import ast
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spearshield import discover
from spearshield.cli import saved_folder
from spearshield.spelling import known

SKIPPED = ("ClassVar", "property")


@dataclass(frozen=True)
class Setting:
    """A hyper-parameter, as written in the source."""

    name: str
    kind: str
    default: str


def do_list(words: argparse.Namespace) -> None:
    """Print the names of everything, or of one kind."""
    kinds = [words.kind] if words.kind else [*discover.PACKAGES]
    found = {kind: discover.names(kind) for kind in kinds}
    if words.json:
        _print(json.dumps(found, indent=2))
        return
    for kind, names in found.items():
        _print(kind)
        width = max(map(len, names), default=0)
        for name, line in names.items():
            _print(f"  {name:<{width}}  {line}")


def do_show(words: argparse.Namespace) -> None:
    """Print the docstring, the hyper-parameters and the paper of everything of these names.

    Of a folder, print what it holds and needs.

    Raises:
        ValueError: Nothing has one of these names; the message lists the closest names.
    """
    every = [name for kind in discover.PACKAGES for name in discover.registered(kind)]
    for given in words.names:
        if given not in every and saved_folder.holds_something(Path(given)):
            for line in saved_folder.description(Path(given)):
                _print(line)
            continue
        kind = "method, attack or other name"
        if Path(given).is_dir():
            kind = f"card.json or recipe.json in {given}, and no {kind}"
        name = known(given, every, kind)
        for kind in discover.PACKAGES:
            if name in discover.registered(kind):
                _show(kind, name)


def _show(kind: str, name: str) -> None:
    entry = discover.registered(kind)[name]
    tree = discover.parsed(entry.module)
    _print(f"{kind}/{name}")
    if tree is None:
        _print(f"{entry.value} has no source file")
        return
    _print(ast.get_docstring(tree) or "")
    if kind == "recipes":
        _print(f"\n`spearshield run {name} --dry-run` prints it as JSON.")
    elif shown := main_class(tree, entry.attr or ""):
        _show_class(shown, tree, name)


def _show_class(shown: ast.ClassDef, tree: ast.Module, name: str) -> None:
    _print(f"\n{shown.name}: {ast.get_docstring(shown) or ''}\n\nHyper-parameters")
    for setting in settings(shown, tree):
        default = f"= {setting.default}" if setting.default else "(required)"
        _print(f"  {setting.name:<20} {setting.kind:<24} {default}")
    if entry := bibtex(shown, name):
        _print(f"\n{entry}")


def main_class(tree: ast.Module, name: str) -> ast.ClassDef | None:
    """The class of this name; without a name, the first public dataclass of the module."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    named = [node for node in classes if node.name == name]
    public = [n for n in classes if n.decorator_list and n.bases and not n.name.startswith("_")]
    return next(iter(named or public), None)


def settings(shown: ast.ClassDef, tree: ast.Module) -> list[Setting]:
    """The fields of a dataclass and of the classes that it inherits from, required ones first."""
    found: dict[str, Setting] = {}
    for inherited in _bases(shown, tree):
        found |= {setting.name: setting for setting in inherited}
    for node in shown.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            kind = ast.unparse(node.annotation)
            if not any(word in kind for word in SKIPPED):
                default = ast.unparse(node.value) if node.value else ""
                found[node.target.id] = Setting(node.target.id, kind, default)
    return sorted(found.values(), key=lambda setting: bool(setting.default))


def _bases(shown: ast.ClassDef, tree: ast.Module) -> Iterator[list[Setting]]:
    """The settings of each class that ``shown`` inherits from, as far as it is in this package."""
    homes = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for base in shown.bases:
        module, name = homes.get(ast.unparse(base), ("", ""))
        above = discover.parsed(module) if module.startswith("spearshield") else None
        if above and (parent := main_class(above, name)):
            yield settings(parent, above)


def bibtex(shown: ast.ClassDef, key: str) -> str:
    """The BibTeX entry of a class that says ``paper = Paper(...)``; "" of others."""
    from spearshield.paper import Paper  # noqa: PLC0415 - imports no torch

    for node in shown.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "paper":
            assert isinstance(node.value, ast.Call)
            return Paper(*map(ast.literal_eval, node.value.args)).bibtex(key)
    return ""


def _print(text: str) -> None:
    print(textwrap.dedent(text) if text.startswith("\n") else text)  # noqa: T201
