"""The verdict on one input: a sound value, a clear refusal, or a fault."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spearshield.adversary import NonFiniteGradientWarning
from spearshield.cli import main

SECONDS, WAITING = 10, 60
"""Longest time for one input: of the processor, and on the clock of a machine that others use."""

LONGEST = 600
"""Most characters of a message."""

REFUSALS = (ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)
"""The documented errors; of their subclasses, only those of this package."""

FORBIDDEN = (
    *("<_io.", "weights_only", "Traceback", " object at 0x", "JSON compliant", "\x1b", "BytesIO"),
    *("beartype", "jaxtyping", "<class '", "<function ", "Errno"),
)
"""Words that tell a user nothing."""

BLAMES = ("corrupt", "truncated", "damaged")
"""Words that are true of changed bytes only."""

USAGE = 2

USER = "models.py"
"""The file with the user's code, whose errors may pass unchanged."""


class Fault(Exception):  # noqa: N818 - the subject of this package
    """A wrong answer to one input.

    Args:
        kind: Equal for inputs with the same fault.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


class Hang(BaseException):
    """The input took more than ``SECONDS`` or ``WAITING``."""


class Refusal:
    """A clear refusal of an input.

    Args:
        message: The text that the user sees.
    """

    def __init__(self, message: str) -> None:
        self.message = message


def require(condition: bool, kind: str, detail: object = "") -> None:
    """Raise a :class:`Fault` unless ``condition`` holds."""
    if not condition:
        raise Fault(kind, str(detail)[:LONGEST])


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Makes a folder the working directory inside the block."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raises :class:`Hang` when the block takes too long; a block stuck in C ends the process."""

    def alarm(*_: object) -> None:
        raise Hang

    timers = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    before = {number: signal.signal(number, alarm) for number in timers}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    faulthandler.dump_traceback_later(2 * WAITING, exit=True, file=sys.__stderr__)
    try:
        yield
    except Hang as error:
        raise Fault(f"takes more than {SECONDS} s in {place(error)}") from error
    finally:
        faulthandler.cancel_dump_traceback_later()
        for number, timer in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Raises a :class:`Fault` for a warning that is not documented."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        documented = issubclass(warning.category, (NonFiniteGradientWarning, ResourceWarning))
        if not documented and Path(warning.filename).parent != Path(__file__).parent:
            where = f"{Path(warning.filename).name}"
            raise Fault(f"{warning.category.__name__} in {where}", str(warning.message))


def place(error: BaseException) -> str:
    """The innermost function of this package in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/spearshield/" in f.filename]
    last = (own or frames)[-1]
    return f"{Path(last.filename).name}:{last.name}"


def answered(call: Callable[[], Any], *, file: Path | None = None, whole: bool = False) -> Any:
    """The value of a call, or a :class:`Refusal`.

    Args:
        file: The file that a refusal must name.
        whole: The bytes of the file are whole, so that a refusal must not call them corrupt.

    Raises:
        Fault: The call raised anything else than a documented error with a clear message.
    """
    try:
        with limited(), without_warnings():
            return call()
    except Fault:
        raise
    except Exception as error:
        if Path(traceback.extract_tb(error.__traceback__)[-1].filename).name == USER:
            return Refusal(str(error))
        documented = isinstance(error, REFUSALS) and (
            type(error) in REFUSALS or type(error).__module__.startswith("spearshield")
        )
        if not documented:
            kind = f"{type(error).__name__} in {place(error)}"
            raise Fault(kind, str(error)[:300]) from error
        system = isinstance(error, OSError) and error.errno is not None
        message = error.strerror or "no text" if system else str(error)
        check_message(message, None if system else file, whole, place(error))
        return Refusal(message)
    except SystemExit as error:
        raise Fault(f"SystemExit in {place(error)}", str(error)) from error


def check_message(message: str, file: Path | None, whole: bool, where: str) -> None:
    """Raise a :class:`Fault` unless a message is one clear line."""
    require(bool(message.strip()), f"empty message in {where}")
    require("\n" not in message.strip(), f"message of several lines in {where}", message)
    require(len(message) < LONGEST, f"message of {LONGEST} characters in {where}", message)
    for words in FORBIDDEN if f"{USER}:" not in message else ():  # else it quotes a user's error
        require(words not in message, f"message with {words!r} in {where}", message)
    if file is not None:
        named = file.name in message or str(file) in message
        require(named, f"message without the file in {where}", message)
    if whole:
        for blame in BLAMES:
            require(blame not in message, f"whole file called {blame} in {where}", message)


def command(
    words: Sequence[str],
    *,
    file: Path | None = None,
    whole: bool = False,
    fine: tuple[int, ...] = (0,),
) -> int | Refusal:
    """The exit status of a command, or a :class:`Refusal` with its line on stderr.

    Args:
        fine: The statuses that a command may end with, besides 2 for a refusal.
    """
    path = [*sys.path]
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            with inside(Path.cwd()), limited(), without_warnings():
                status = main(words)
        except SystemExit as error:  # argparse's own
            status = int(error.code or 0)
        except Fault:
            raise
        except Exception as error:
            kind = f"{type(error).__name__} in {place(error)}"
            raise Fault(kind, str(error)[:300]) from error
        finally:
            sys.path[:] = path
    if status in fine:
        return status
    usage, _, line = complained.getvalue().rpartition("\nspearshield")  # after the usage, or bars
    text = (line if usage else complained.getvalue()).strip()
    require(status == USAGE, f"exit status {status} of {words[0]}", text)
    where = f"{words[0]}"
    check_message(text.partition(": ")[2], file, whole, where)
    return Refusal(text)


def check_images(images: object, kind: str = "images") -> None:
    """Raise a :class:`Fault` unless these are images: uint8, or floats in [0, 1]."""
    require(isinstance(images, Tensor), f"{kind} are {type(images).__name__}")
    assert isinstance(images, Tensor)
    require(images.ndim == 4, f"{kind} have {images.ndim} dimensions", tuple(images.shape))
    if images.dtype == torch.uint8:
        return
    floats = images.dtype in (torch.float32, torch.float64)
    require(floats, f"{kind} are {images.dtype}")
    inside = bool(((images >= 0) & (images <= 1)).all())
    require(
        inside, f"{kind} are not in [0, 1]", (images.min(), images.max()) if len(images) else ""
    )


def check_examples(examples: Any, *, count: int | None = None) -> None:
    """Raise a :class:`Fault` unless these are examples that the package can work with."""
    check_images(examples.pixels)
    require(examples.pixels.dtype == torch.uint8, f"pixels are {examples.pixels.dtype}")
    require(examples.pixels.shape[1] >= 1 and examples.pixels.numel() > 0, "pixels are empty")
    require(examples.y.dtype == torch.int64, f"labels are {examples.y.dtype}")
    require(len(examples.y) == len(examples.pixels), "labels of another length")
    low, high = int(examples.y.min()), int(examples.y.max())
    require(low >= 0 and high < examples.classes, "labels out of range", (low, high))
    require(int(examples.pixels.max()) != 1, "nearly black images accepted")
    require(count is None or len(examples) == count, "another number of images", len(examples))


def check_pixels(pixels: Tensor, array: NDArray[Any]) -> None:
    """Raise a :class:`Fault` unless pixels are the levels of an array, in any layout."""
    levels = array.astype(np.float64) * (1 if array.dtype == np.uint8 else 255)
    require(pixels.numel() == levels.size, "another number of pixels", tuple(pixels.shape))
    found = np.sort(pixels.numpy().ravel().astype(np.float64))
    difference = np.abs(found - np.sort(levels.ravel())).max()
    require(bool(difference <= 0.51), "other pixels than those of the file or array", difference)
