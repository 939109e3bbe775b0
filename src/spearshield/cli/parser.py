"""The command ``spearshield``: one library call a command. Help answers without importing torch."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from spearshield import __version__, discover

USAGE, FAILED, STOPPED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. A user's mistake is one line on stderr, no traceback."""
    options = parser().parse_args(arguments)
    sys.path.append(str(Path.cwd()))  # where a user's own module:function lies
    try:
        from spearshield.cli import commands  # noqa: PLC0415 - help must not import torch

        command = getattr(commands, f"do_{options.command}")
        return int(command(options) or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return _fail(
            options, "interrupted; what was saved is whole, run it again to go on", STOPPED
        )
    except (ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        return _fail(options, str(error), USAGE)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _fail(
                options, f"the disk is full ({error}); files already saved are whole", FAILED
            )
        return _fail(options, str(error), FAILED)
    except Exception as error:
        if type(error).__name__ != "Interrupted":
            raise
        return _fail(options, str(error), STOPPED)


def _fail(options: argparse.Namespace, message: str, status: int) -> int:
    if options.debug:
        raise  # noqa: PLE0704 - only called while an exception is handled
    line = " ".join(message.split())
    print(f"spearshield {options.command}: {line}", file=sys.stderr)  # noqa: T201
    return status


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share: give a number from 0 to 1")
    return share


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="spearshield",
        description="Generative attacks and defences for image classifiers, and their judge.",
    )
    top.add_argument("--version", action="version", version=f"spearshield {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[debug, *parents])

    debug = argparse.ArgumentParser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="show the traceback of an error")

    machine = argparse.ArgumentParser(add_help=False)
    machine.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    machine.add_argument("--data-dir", type=Path, metavar="DIR", help="look for data here first")

    changes = argparse.ArgumentParser(add_help=False)
    changes.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="FIELD.SUB=VALUE",
        help="change one field; again for more",
    )
    changes.add_argument("--seed", type=int, help="the one seed of everything")
    changes.add_argument(
        "--dry-run", action="store_true", help="print what would be done, as JSON, and stop"
    )

    recipe = argparse.ArgumentParser(add_help=False, parents=[machine, changes])
    recipe.add_argument("recipe", metavar="RECIPE", help="a name from `spearshield list recipes`")
    recipe.add_argument("--out", type=Path, metavar="DIR", help="run folder; default runs/RECIPE")

    victim = argparse.ArgumentParser(add_help=False, parents=[machine, changes])
    victim.add_argument(
        "victim",
        nargs="?",
        type=Path,
        metavar="RUN/METHOD",
        help="a trained method in a run folder; or give --classifier and --data",
    )
    victim.add_argument(
        "--classifier",
        metavar="NAME",
        help="a name, timm:NAME, torchvision:NAME, or module:function",
    )
    victim.add_argument("--weights", metavar="FILE", help="its weights: safetensors, npz or pt")
    victim.add_argument("--data", metavar="NAME", help="a data set, or a path to a folder or npz")
    victim.add_argument("--split", choices=("train", "validation", "test"))
    victim.add_argument("--images", type=int, help="how many, from the first")
    victim.add_argument("--out", type=Path, metavar="DIR", required=True, help="where to write")

    attack = argparse.ArgumentParser(add_help=False)
    attack.add_argument(
        "--attack", default="pgd", metavar="NAME", help="from `list attacks`, or RUN/METHOD"
    )
    attack.add_argument("--threat", choices=("Linf", "L2"), default="Linf")
    attack.add_argument("--eps", type=float, help="the budget, on the [0, 1] pixel scale")

    listing = command("list", "Methods, attacks, classifiers, data sets and recipes.")
    listing.add_argument("kind", nargs="?", choices=tuple(discover.PACKAGES))
    listing.add_argument("--json", action="store_true")
    showing = command("show", "Paper, hyper-parameters and BibTeX of one of them.")
    showing.add_argument("name")

    command("run", "Train, attack, evaluate and report; run again, it resumes.", recipe)
    command("train", "The trainings of a recipe, and nothing else.", recipe)

    evaluate = command("evaluate", "Judge a classifier or a trained method.", victim)
    evaluate.add_argument(
        "--attack",
        action="append",
        metavar="NAME",
        help="a name, or RUN/METHOD for a learned one; again for more; default: the run's trials",
    )
    evaluate.add_argument("--threat", choices=("Linf", "L2"), default="Linf")
    evaluate.add_argument("--eps", type=float, help="the budget, on the [0, 1] pixel scale")
    evaluate.add_argument(
        "--view",
        action="append",
        metavar="NAME",
        help="oblivious, adaptive, bpda, eot, detector_aware or in_range; a learned attack has "
        "its own",
    )

    battery = evaluate.add_mutually_exclusive_group()
    for name, text in {
        "standard": "the whole battery: AutoAttack's parts on the whole victim, and more",
        "quick": "a stated subset of it, for daily use",
    }.items():
        battery.add_argument(
            f"--{name}", dest="battery", action="store_const", const=name, help=text
        )
    evaluate.add_argument(
        "--transfer-from",
        action="append",
        default=[],
        type=Path,
        metavar="RUN/METHOD",
        help="also try adversarial images of this victim; again for more",
    )
    evaluate.add_argument(
        "--min-robust-acc", type=_share, metavar="SHARE", help="exit 3 if the worst case is lower"
    )
    evaluate.add_argument(
        "--require-valid", action="store_true", help="exit 3 if the number is not trustworthy"
    )

    command("selftest", "See the judge flag defences that are wrong on purpose.")

    attacking = command(
        "attack",
        "Write an adversarial set, as floats and as PNG; or, by a learned attack and without a "
        "victim, perturb a folder of images or an npz.",
        victim,
        attack,
    )
    attacking.add_argument("--view", metavar="NAME", help="default: adaptive")
    attacking.add_argument("--format", choices=("safetensors", "npz"), help="default: safetensors")

    purify = command("purify", "Purify a folder of images or an npz.", machine)
    purify.add_argument("victim", type=Path, metavar="RUN/METHOD")
    purify.add_argument("input", type=Path, help="a folder of PNG or JPEG images, or an npz")
    purify.add_argument("output", type=Path, help="the same out")

    report = command("report", "Lay any number of runs side by side.")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    report.add_argument("--out", type=Path, required=True, metavar="DIR")
    return top
