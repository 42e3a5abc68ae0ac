"""The arguments of `refhcm convert`, and what it prints."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import find, known
from .base import Converter, Options, run
from .pictures import POLICIES
from .report import Report

_PICTURES = {
    "link": "OUT/images is a link to the folder", "copy": "copies in OUT/images", "embed": "base64 in every row",
}  # fmt: skip


def add_converters(parser: argparse.ArgumentParser) -> None:
    """One subcommand per converter. Without one, `name` is None."""
    names = parser.add_subparsers(metavar="NAME", dest="name")
    for converter in known().values():
        _add(names, converter)
    parser.set_defaults(name=None)


def _add(names: argparse._SubParsersAction, converter: Converter) -> None:
    told = f"{converter.help}. --source is {converter.layout} Licence: {converter.licence}."
    parser = names.add_parser(converter.name, help=converter.help, description=told)
    parser.add_argument("--source", required=True, metavar="PATH", help="the official download")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the files are written, one per split")
    if converter.pictures:
        parser.add_argument("--images", metavar="DIR", help="the pictures (default: where SOURCE has them)")
        how = "; ".join(f"{name}: {meaning}" for name, meaning in _PICTURES.items())
        parser.add_argument("--pictures", choices=POLICIES, default="link", help=f"{how} (default: link)")
    special = parser.add_argument_group("of this converter") if converter.options else parser
    for option in converter.options:
        flag, keep = f"--{option.name}", argparse.SUPPRESS
        if option.kind is bool:
            special.add_argument(flag, action="store_true", default=keep, help=option.help)
        else:
            special.add_argument(
                flag, type=option.kind, default=keep, choices=option.choices, required=option.required, help=option.help
            )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def listing() -> str:
    """All converters, for a reader."""
    width = max(map(len, known()))
    lines = [f"  {converter.name:<{width}}  {converter.help}" for converter in known().values()]
    return "\n".join(["refhcm convert NAME --help says what each of these needs, and its licence:", *lines])


def convert(arguments: argparse.Namespace) -> tuple[Report, list[Path]]:
    """Run what the arguments name; the report and the files. RefHCMError where nothing can be made of the source."""
    converter = find(arguments.name)
    given = vars(arguments)
    special = {option.name: given[option.name.replace("-", "_")] for option in converter.options
               if option.name.replace("-", "_") in given}  # fmt: skip
    images = given.get("images")
    return run(
        converter,
        Options(
            Path(arguments.source),
            Path(arguments.out),
            Path(images) if images else None,
            given.get("pictures", "link"),
            special,
            progress=not arguments.quiet,
        ),
    )
