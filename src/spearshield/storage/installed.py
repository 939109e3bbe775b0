"""Installed code: the version of a module that was not written by the user.

Code with a version is identified by its name and version; all other code by its content. Imports no
torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import sys
import sysconfig
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of this package."""

APART = ("cli", "report")
"""Packages of this package on which no measured number depends."""

_STANDARD = Path(sysconfig.get_path("stdlib"))
_FOLDERS = ("site-packages", "dist-packages")


@cache
def source_digest() -> str:
    """The SHA-256 of the source files of this package, except :data:`APART`."""
    sha256 = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        if name.parts[0] not in APART:
            content = path.read_bytes()
            sha256.update(f"{name.as_posix()}:{len(content)};".encode() + content)
    return sha256.hexdigest()


def version_of(module: str) -> str | None:
    """The version of the package of a module; ``None`` for a user's own code.

    Packages in development mode, scripts and notebooks count as a user's own code.
    """
    return _version(module.partition(".")[0])


@cache
def _version(package: str) -> str | None:
    if package == "spearshield":
        return source_digest()
    if package in sys.builtin_module_names:
        return platform.python_version()
    origin = _origin(package)
    if origin in (None, "frozen"):
        return origin and platform.python_version()
    path = Path(origin)
    if any(folder in path.parts for folder in _FOLDERS):
        try:
            files = importlib.metadata.distribution(package)
            listed = hashlib.sha256((files.read_text("RECORD") or "").encode()).hexdigest()
        except importlib.metadata.PackageNotFoundError:  # its distribution has another name
            return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        else:
            return f"{files.version} {listed}"
    return platform.python_version() if path.is_relative_to(_STANDARD) else None


def _origin(package: str) -> str | None:
    """The file or folder of a package, which is not imported; ``frozen`` if it is built in."""
    module = sys.modules.get(package)
    try:
        spec = module.__spec__ if module else importlib.util.find_spec(package)
    except (AttributeError, ImportError, ValueError):
        spec = None
    if spec is None:
        return getattr(module, "__file__", None)
    return spec.origin or next(iter(spec.submodule_search_locations or ()), None)


@cache
def commit() -> str | None:
    """The git commit of the checkout that this package runs from; ``None`` if it is installed.

    Reads the files of git; changes that are not committed do not show.
    """
    root = PACKAGE.parents[1]
    if root / "src" / "spearshield" != PACKAGE:
        return None
    try:
        return _head(root / ".git")
    except (OSError, ValueError):
        return None


def _head(git: Path) -> str | None:
    """The commit that HEAD names in the ``.git`` folder of a checkout, or file of a worktree."""
    if git.is_file():
        git = git.parent / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return head or None
    branch = head.removeprefix("ref:").strip()
    shared = git / "commondir"
    common = git / shared.read_text(encoding="utf-8").strip() if shared.exists() else git
    for place in (git, common):
        if (place / branch).exists():
            return (place / branch).read_text(encoding="utf-8").strip() or None
    packed = (common / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {branch}")), None)
