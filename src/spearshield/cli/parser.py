"""All commands and their options."""

from __future__ import annotations

from pathlib import Path

from spearshield import __version__, discover
from spearshield.cli import values
from spearshield.cli.values import Parser


def parser() -> Parser:
    """The parser of the command ``spearshield``."""
    top = Parser(
        prog="spearshield",
        description="Generative attacks and defences for image classifiers, and their judge.",
    )
    top.add_argument("--version", action="version", version=f"spearshield {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str, *parents: Parser) -> Parser:
        return commands.add_parser(name, help=text, description=text, parents=[_debug(), *parents])

    _audit(command("audit", "Measure the robust accuracy of a model.", _model(), _budget()))
    _protect(command("protect", "Train a defence for a classifier.", _own(), _budget()))
    _learn(command("learn-attack", "Train an attack on a classifier.", _own(), _budget()))
    _attack(
        command(
            "attack",
            "Write adversarial images of a model, as floats and as PNG; or perturb files by a "
            "trained attack.",
            _model(),
            _budget(),
        )
    )
    _transfer(
        command(
            "transfer",
            "See how far adversarial images of each classifier fool the others.",
            _normalisation(),
            _images(),
            _settings(),
            _machine(),
            _budget(),
        )
    )
    _purify(command("purify", "Purify a folder of images or an npz file.", _saved()))
    _export(command("export", "Write a shield as an ONNX graph.", _saved()))
    command("run", "Train, attack, evaluate and report; run again, it resumes.", _recipe())
    command("train", "The trainings of a recipe, and nothing else.", _recipe())
    _report(command("report", "Put any number of runs side by side."))
    command(
        "selftest",
        "See the judge flag defences and attacks that are wrong on purpose, and no honest model.",
        _machine(),
    )
    _list(command("list", "Methods, attacks, classifiers, data sets and recipes."))
    _show(command("show", "Paper, hyper-parameters and BibTeX; or a saved folder."))
    return top


def _debug() -> Parser:
    group = Parser(add_help=False)
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return group


def _machine() -> Parser:
    group = Parser(add_help=False)
    group.add_argument(
        "--device", type=values.device, default="auto", help="cpu, cuda, cuda:N; default: auto"
    )
    group.add_argument(
        "--threads", type=values.threads, metavar="N", help="of the CPU; default: torch's own"
    )
    return group


def _settings() -> Parser:
    group = Parser(add_help=False)
    group.add_argument(
        "--data-dir", type=values.folder, metavar="DIR", help="look for data here first"
    )
    group.add_argument("--seed", type=values.seed, help="the one seed of everything")
    group.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="FIELD.SUB=VALUE",
        help="change one field; again for more",
    )
    return group


def _network() -> Parser:
    group = Parser(add_help=False)
    group.add_argument(
        "--classifier", metavar="NAME", help="a name, timm:NAME, torchvision:NAME, module:function"
    )
    group.add_argument(
        "--weights", metavar="FILE", help="its weights: safetensors, npz, pt, pth; or published"
    )
    return group


def _normalisation() -> Parser:
    group = Parser(add_help=False)
    group.add_argument(
        "--mean", type=values.numbers, metavar="N,N,N", help="of the normalisation that it expects"
    )
    group.add_argument("--std", type=values.numbers, metavar="N,N,N")
    group.add_argument(
        "--output",
        type=values.word,
        choices=("logits", "probabilities", "binary_logit", "binary_probability"),
        help="the kind of numbers it returns; default: logits",
    )
    return group


def _images() -> Parser:
    group = Parser(add_help=False)
    group.add_argument("--data", metavar="NAME", help="a data set, or the path of a folder or npz")
    group.add_argument("--split", type=values.word, choices=("train", "validation", "test"))
    group.add_argument(
        "--size", type=values.size, metavar="HxW", help="resize the images to this size"
    )
    group.add_argument(
        "--classes",
        type=values.whole(1, values.MANY),
        metavar="N",
        help="number of classes in the data",
    )
    return group


def _model() -> Parser:
    group = Parser(
        add_help=False,
        parents=[_network(), _normalisation(), _images(), _settings(), _machine()],
    )
    group.add_argument(
        "model",
        nargs="?",
        type=Path,
        metavar="MODEL",
        help="a shield, or RUN/TRAINING; or give --classifier and --data",
    )
    group.add_argument(
        "--purifier",
        metavar="module:function",
        help="your own purifier, in front of the classifier or shield",
    )
    group.add_argument("--purifier-weights", metavar="FILE", help="its weights")
    group.add_argument("--images", type=values.images, metavar="N", help="use only so many images")
    _batch_size(group)
    group.add_argument("--out", type=Path, metavar="DIR", required=True, help="where to write")
    return group


def _batch_size(parser: Parser) -> None:
    parser.add_argument(
        "--batch-size",
        type=values.whole(1, 10**9),
        metavar="N",
        help="images attacked at a time; changes speed and memory, not results; default: 250",
    )


def _own() -> Parser:
    group = Parser(
        add_help=False,
        parents=[_network(), _normalisation(), _images(), _settings(), _machine()],
    )
    for action in group._actions:
        action.required = action.dest in ("classifier", "data")
    group.add_argument("--attack", metavar="NAME", help="attack to train on; default: PGD, 7 steps")
    group.add_argument(
        "--steps", type=values.whole(0, 10**9), metavar="N", help="batches to train on"
    )
    group.add_argument("--batch-size", type=values.whole(1, 10**9), metavar="N")
    group.add_argument("--out", type=Path, metavar="DIR", required=True, help="where to save")
    return group


def _saved() -> Parser:
    group = Parser(add_help=False, parents=[_machine()])
    group.add_argument("model", type=Path, metavar="SHIELD", help="a shield, or RUN/TRAINING")
    group.add_argument("--classifier", metavar="module:function", help="the shield's own network")
    return group


def _budget() -> Parser:
    group = Parser(add_help=False)
    group.add_argument("--threat", metavar="NORM", help="Linf (default) or L2")
    group.add_argument(
        "--eps", type=values.positive, help="the budget, on the [0, 1] pixel scale, as 0.3 or 8/255"
    )
    return group


def _recipe() -> Parser:
    group = Parser(add_help=False, parents=[_settings(), _machine()])
    group.add_argument(
        "recipe", metavar="RECIPE", help="a name from `spearshield list recipes`, or a JSON file"
    )
    group.add_argument("--out", type=Path, metavar="DIR", help="run folder; default runs/RECIPE")
    group.add_argument(
        "--dry-run", action="store_true", help="print what would be done, as JSON, and stop"
    )
    return group


def _audit(audit: Parser) -> None:
    audit.add_argument(
        "--effort",
        type=values.word,
        choices=("quick", "standard"),
        help="the battery of attacks; default: quick",
    )
    audit.add_argument(
        "--attack",
        action="append",
        default=[],
        metavar="NAME",
        help="an attack in place of a battery, or the folder of a trained one; again for more",
    )
    audit.add_argument(
        "--view",
        action="append",
        metavar="NAME",
        help="view of the attacker: oblivious, adaptive, bpda, eot, detector_aware, in_range",
    )
    audit.add_argument(
        "--transfer-from",
        action="append",
        default=[],
        type=Path,
        metavar="MODEL",
        help="also try adversarial images of this model; again for more",
    )
    audit.add_argument(
        "--min-robust-acc",
        type=values.share,
        metavar="SHARE",
        help="exit 3 if the worst case is lower",
    )
    audit.add_argument(
        "--require-valid", action="store_true", help="exit 3 unless the verdict is: no flaw found"
    )


def _protect(protect: Parser) -> None:
    protect.add_argument("--method", default="ape_gan", metavar="NAME", help="default: ape_gan")
    protect.add_argument(
        "--held-out",
        type=values.images,
        default=200,
        metavar="N",
        help="images set aside for the closing audit; default: 200",
    )


def _learn(learn: Parser) -> None:
    learn.add_argument("--method", default="adv_gan", metavar="NAME", help="default: adv_gan")


def _attack(attack: Parser) -> None:
    attack.add_argument(
        "--attack",
        action="append",
        metavar="NAME",
        help="from `list attacks`, or the folder of a trained attack; default: pgd",
    )
    attack.add_argument("--view", action="append", metavar="NAME", help="default: adaptive")
    attack.add_argument(
        "--format", type=values.word, choices=("safetensors", "npz"), help="default: safetensors"
    )


def _transfer(transfer: Parser) -> None:
    transfer.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="NAME=WEIGHTS, timm:NAME or torchvision:NAME, a shield, or RUN/TRAINING; two or more",
    )
    transfer.add_argument(
        "--attack",
        action="append",
        metavar="NAME",
        help="from `list attacks`; again for more; default: fgsm and pgd",
    )
    transfer.add_argument(
        "--images", type=values.images, metavar="N", help="default: 1,000; 0: all"
    )
    _batch_size(transfer)
    transfer.add_argument("--out", type=Path, metavar="DIR", required=True, help="where to write")


def _purify(purify: Parser) -> None:
    purify.add_argument("input", type=Path, help="a folder of PNG or JPEG images, or an npz file")
    purify.add_argument("output", type=Path, help="the same, purified")
    purify.add_argument(
        "--size", type=values.size, metavar="HxW", help="resize the images of a folder"
    )


def _export(export: Parser) -> None:
    export.add_argument("--onnx", type=Path, required=True, metavar="FILE")


def _report(report: Parser) -> None:
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    report.add_argument("--out", type=Path, required=True, metavar="DIR")


def _list(listing: Parser) -> None:
    listing.add_argument("kind", nargs="?", type=values.word, choices=tuple(discover.PACKAGES))
    listing.add_argument("--json", action="store_true")


def _show(show: Parser) -> None:
    show.add_argument("names", nargs="+", metavar="NAME", help="a name of `list`, or a folder")
