"""The `refhcm` command: reading of arguments, one small function per subcommand.

Exit codes: 0 done, 1 something could not be answered (one sentence on stderr says why), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__
from .cli_data import add_dataset_commands
from .errors import RefHCMError, UsageError

if TYPE_CHECKING:
    from .inference.answer import Answer
    from .inference.predictor import RefHCMPredictor

SAMPLES = Path(__file__).resolve().parent / "dataset" / "samples"
EXTRAS = {
    "fairseq": "training", "tokenizers": "published checkpoints", "gradio": "web page",
    "transformers": "Hugging Face hub", "webdataset": "writing of tar shards", "peft": "LoRA fine-tuning",
    "moderngl": "3-D scenes",
}  # fmt: skip
"""Optional library -> what it is for."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence in place of the whole usage text."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of the process) and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a caption or file name that the terminal cannot spell
    try:
        words = sys.argv[1:] if argv is None else list(argv)
        arguments = build_parser(words[0] if words else None).parse_args(words)
        return int(arguments.run(arguments))
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("refhcm: interrupted", file=sys.stderr)
        return 130
    except (RefHCMError, OSError) as error:
        print(f"refhcm: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command; a subcommand is one function `_add_...` here and one `run_...` below.

    `chosen` is the subcommand that will be parsed: only for it are modules imported that say what its arguments are.
    """
    parser = _Parser(prog="refhcm", description="Referring human perception: a photo and words in, a person out.")
    parser.add_argument("--version", action="version", version=f"refhcm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_predict(commands)
    _add_demo(commands)
    add_dataset_commands(commands, chosen)
    _add_convert_checkpoint(commands)
    _add_web(commands)
    commands.add_parser("doctor", help="say what is installed and what works here").set_defaults(run=run_doctor)
    commands.add_parser("version", help="print the version").set_defaults(run=run_version)
    return parser


# -- predict -------------------------------------------------------------------------------------------------
def _add_predict(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "predict", help="answer one question about a picture, or a file of questions",
        description="One question: IMAGE and --text, --region, --point, --scribble or --everybody. "
        "Many: --requests, --images and --answers.",
    )  # fmt: skip
    _add_question(parser)
    parser.add_argument(
        "--everybody", action="store_true", help="find all people, or with --text all whom the words mean"
    )
    parser.add_argument("--out", metavar="DIR", help="write annotated pictures, maps and JSON into this folder")
    parser.add_argument(
        "--attention", nargs="*", metavar="NAME",
        help="draw where the model looked, too: for all it answers, or for outputs and keypoints like box left_wrist",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    many = parser.add_argument_group("many questions")
    many.add_argument("--requests", metavar="IN.jsonl", help='lines like {"image": "a.jpg", "text": "the man in red"}')
    many.add_argument("--images", metavar="DIR", help="the folder that image names refer to")
    many.add_argument("--answers", metavar="OUT.jsonl", help="one line per request, in the same order")
    many.add_argument("--batch-size", type=int, default=8, metavar="N", help="questions at a time (default 8)")
    parser.set_defaults(run=run_predict)


def _add_question(parser: argparse.ArgumentParser) -> None:
    """Arguments that say what is asked, and of which model."""
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="a picture")
    parser.add_argument("--text", metavar="WORDS", help="words that point at one person")
    parser.add_argument("--region", nargs=4, type=float, metavar=("X1", "Y1", "X2", "Y2"), help="a box in pixels")
    parser.add_argument("--point", nargs=2, type=float, metavar=("X", "Y"), help="a place on the person, in pixels")
    parser.add_argument("--scribble", nargs="+", type=float, metavar="N", help="a line over the person: X Y X Y ...")
    parser.add_argument(
        "--tasks", nargs="+", metavar="TASK",
        help="any of box, keypoints, parsing, mask, caption, region_map (default: all that the model can do but for "
        "region_map; of everybody the box)",
    )  # fmt: skip
    parser.add_argument("--beam", type=int, default=1, metavar="N", help="width of the search (default 1: greedy)")
    _add_model(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    """Arguments that say which model answers, and where."""
    parser.add_argument("--model", default="compact", metavar="PATH", help="a model folder (default: the bundled one)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")


def run_predict(arguments: argparse.Namespace) -> int:
    """`refhcm predict`."""
    from .inference.summary import summarise

    if arguments.requests or arguments.answers or arguments.images:
        return _predict_many(arguments)
    if arguments.image is None:
        raise UsageError("No picture was given: refhcm predict IMAGE --text WORDS, or --requests for many.")
    options = _options(arguments)
    _check_asked(arguments)
    if arguments.out:
        _writable("--out", arguments.out)
    elif options["attention"]:
        raise UsageError("--attention draws pictures: name the folder for them with --out.")
    if arguments.everybody:
        return _predict_everybody(arguments, options)
    answer = _load(arguments)(arguments.image, **_asked(arguments), **options)
    written = _save(answer, arguments.image, arguments.out) if arguments.out else []
    print(answer.to_json() if arguments.json else summarise(answer, arguments.image, written))
    return 0


def _predict_everybody(arguments: argparse.Namespace, options: dict[str, Any]) -> int:
    from .inference.answers import save_answers
    from .inference.summary import summarise_all

    image, text = arguments.image, arguments.text
    given = {name: value for name, value in options.items() if name != "tasks" or value is not None}
    answers = _load(arguments).everybody(image, text, **given)
    written = save_answers(answers, arguments.out, _stem(image), image, text) if arguments.out else []
    if arguments.json:
        print(json.dumps([answer.to_dict() for answer in answers], allow_nan=False))
        return 0
    print(summarise_all(answers, image, text, written))
    return 0


def _predict_many(arguments: argparse.Namespace) -> int:
    from .inference.batch import read_requests, run_requests

    needed = {"--requests": arguments.requests, "--images": arguments.images, "--answers": arguments.answers}
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise UsageError(f"{' and '.join(missing)} missing: many questions need {', '.join(needed)}.")
    if arguments.image or arguments.everybody or arguments.json or _asked(arguments):
        raise UsageError(
            "IMAGE, --text, --region, --point, --scribble, --everybody and --json are for one question: leave them out "
            "with --requests."
        )
    if arguments.batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {arguments.batch_size}.")
    answers = Path(arguments.answers)
    if answers.resolve() == Path(arguments.requests).resolve():
        raise UsageError("--answers would overwrite --requests: name another file.")
    if answers.is_dir():
        raise UsageError(f"--answers {answers} is a folder: name a file.")
    files = arguments.out or answers.with_name(answers.stem + "_files")
    options = _options(arguments)
    try:
        requests = read_requests(arguments.requests, arguments.images)
    except RefHCMError as error:
        raise UsageError(str(error)) from error
    _writable("--answers", answers.parent)
    if answers.exists() and not os.access(answers, os.W_OK):
        raise RefHCMError(f"--answers: {answers} may not be written: name a file that is yours.")
    if arguments.out or Path(files).exists():  # otherwise it is made when there is something to write
        _writable("--out", files)
    failed = run_requests(
        _load(arguments),
        requests,
        answers,
        files,
        batch_size=arguments.batch_size,
        draw=bool(arguments.out),
        **options,
    )
    if failed:
        print(f"refhcm: {failed} of {len(requests)} requests failed; {answers} says why.", file=sys.stderr)
    return 1 if failed else 0


# -- demo ----------------------------------------------------------------------------------------------------
def _add_demo(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "demo", help="box, keypoints and parts by one instruction, then a caption, drawn on the picture",
        description="Without IMAGE: go through the bundled samples.",
    )  # fmt: skip
    _add_question(parser)
    parser.add_argument("--out", default="out", metavar="DIR", help="where to write (default: out)")
    parser.set_defaults(run=run_demo)


def run_demo(arguments: argparse.Namespace) -> int:
    """`refhcm demo`: the one-instruction form, on one picture or on the bundled samples."""
    from .inference.batch import read_requests
    from .inference.summary import summarise

    options = _options(arguments)
    if arguments.image is not None:
        _check_asked(arguments)
        asked = [(arguments.image, _asked(arguments))]
    elif _asked(arguments):
        raise UsageError("No picture was given: name one, or leave the question out to see the samples.")
    else:
        requests = read_requests(SAMPLES / "requests.jsonl", SAMPLES)
        asked = [(request.picture, request.question or {}) for request in requests if request.picture]
    _writable("--out", arguments.out)
    model = _load(arguments)
    for number, (image, question) in enumerate(asked, 1):
        answer = model(image, **question, **options)
        written = _save(answer, image, arguments.out, f"_{number}" if len(asked) > 1 else "")
        print(summarise(answer, image, written))
    return 0


# -- small commands ------------------------------------------------------------------------------------------
def _add_convert_checkpoint(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert-checkpoint", help="make a model folder of a published .pt file",
        description="Reads the file without executing anything in it and writes config.json and model.safetensors.",
    )  # fmt: skip
    parser.add_argument("checkpoint", metavar="FILE.pt", help="a published OFA or RefHCM checkpoint")
    parser.add_argument("folder", metavar="FOLDER", help="where the model folder is made")
    parser.add_argument("--dict", metavar="dict.txt", help="the published vocabulary, copied into FOLDER")
    parser.add_argument("--vqgan", metavar="FILE.ckpt", help="the published parsing tokenizer, for part maps")
    parser.add_argument("--ema", action="store_true", help="take the averaged weights, where the file has them")
    parser.set_defaults(run=run_convert_checkpoint)


def run_convert_checkpoint(arguments: argparse.Namespace) -> int:
    """`refhcm convert-checkpoint`."""
    from .inference.convert import convert

    missing = convert(
        arguments.checkpoint, arguments.folder, dictionary=arguments.dict, vqgan=arguments.vqgan, ema=arguments.ema
    )
    for sentence in missing:
        print(sentence)
    print(f"{arguments.folder} is written: refhcm predict IMAGE --text WORDS --model {arguments.folder}")
    return 0


def _add_web(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("web", help="serve a page for asking, on this machine only")
    _add_model(parser)
    parser.add_argument("--port", type=int, metavar="N", help="port on 127.0.0.1 (default: 7860 or the next free one)")
    parser.set_defaults(run=run_web)


def run_web(arguments: argparse.Namespace) -> int:
    """`refhcm web`: until interrupted."""
    from .inference.web import import_gradio, serve

    import_gradio()  # its absence is said before a model is loaded
    serve(_load(arguments), arguments.port)
    return 0


def run_doctor(arguments: argparse.Namespace) -> int:
    """`refhcm doctor`: 0 when the bundled model answers here."""
    print(f"refhcm   {__version__}, Python {platform.python_version()} on {platform.platform()}")
    for library, purpose in EXTRAS.items():
        found = importlib.util.find_spec(library) is not None
        print(f"{library:13}{importlib.metadata.version(library) if found else 'not installed':15} {purpose}")
    import torch

    from .inference.load import load

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none (the processor is used)"
    print(f"torch        {torch.__version__:15} GPU: {device}")
    model = load()
    count = sum(parameter.numel() for parameter in model.model.parameters())
    print(f"The bundled model loads: {count:,} parameters on {model.device}.")
    return 0


def run_version(arguments: argparse.Namespace) -> int:
    """`refhcm version`."""
    print(__version__)
    return 0


# -- shared --------------------------------------------------------------------------------------------------
def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Tasks, beam and attention, checked before a model is loaded."""
    from .inference.asking import check_attention, check_beam, check_tasks

    named = getattr(arguments, "attention", None)  # None: not asked for, an empty list: of everything
    try:
        tasks = check_tasks(",".join(arguments.tasks) if arguments.tasks else None)
        attention = named or named is not None
        check_attention(attention, tasks)  # without names the model decides of what: it may not answer everything
        return {"tasks": tasks, "beam": check_beam(arguments.beam), "attention": attention}
    except RefHCMError as error:
        raise UsageError(str(error)) from error


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """What says who is meant, by its name."""
    given = {name: getattr(arguments, name) for name in ("text", "region", "point", "scribble")}
    return {name: value for name, value in given.items() if value is not None}


def _check_asked(arguments: argparse.Namespace) -> None:
    """UsageError unless a picture is asked about in exactly one way; a scribble becomes a list of points."""
    names = list(_asked(arguments))
    if getattr(arguments, "everybody", False):
        if names not in ([], ["text"]):
            raise UsageError(f"Both --everybody and --{names[0]} were given: everybody may be narrowed by --text only.")
        return
    if not names:
        raise UsageError(
            "Neither words nor a region were given: say who is meant with --text, --region, --point or --scribble."
        )
    if len(names) > 1:
        words = {"text": "words", "region": "a region", "point": "a point", "scribble": "a scribble"}
        one, other = names[:2]
        raise UsageError(f"Both {words[one]} and {words[other]} were given: ask with --{one} or with --{other}.")
    numbers = arguments.scribble or []
    if len(numbers) % 2:
        raise UsageError(f"--scribble takes pairs of numbers X Y, and not {len(numbers)} numbers.")
    if numbers:
        arguments.scribble = list(zip(numbers[::2], numbers[1::2], strict=True))


def _writable(switch: str, folder: str | Path) -> None:
    """Find out before a model is loaded that nothing can be written to the folder that a switch stands for."""
    from .data.commands import writable_folder

    try:
        writable_folder(folder)
    except RefHCMError as error:
        raise RefHCMError(f"{switch}: {error}") from error


def _load(arguments: argparse.Namespace) -> RefHCMPredictor:
    from .inference.load import load

    return load(arguments.model, arguments.device)


def _save(answer: Answer, image: str | Path, folder: str, suffix: str = "") -> list[Path]:
    """Write the answer's files; their names differ from the picture's, so that it cannot be overwritten."""
    return answer.save(folder, _stem(image) + suffix, image)


def _stem(image: str | Path) -> str:
    return f"{Path(image).stem}_answer"


if __name__ == "__main__":
    sys.exit(main())
