"""The commands about datasets of `refhcm`: what they take, and what they print. See `cli`."""

from __future__ import annotations

import argparse
import json
import sys

from .errors import UsageError

_SHOWN = 20
"""Rows that are named one by one."""


def add_dataset_commands(commands: argparse._SubParsersAction, chosen: str | None) -> None:
    """`convert`, `validate`, `shard`, `leaks`; `chosen` is the one that will be parsed."""
    parser = commands.add_parser(
        "convert", help="make dataset files of an official download; without a name, list what can be converted"
    )
    if chosen == "convert":
        from .data.converters.command import add_converters

        add_converters(parser)
    parser.set_defaults(run=run_convert)
    parser = commands.add_parser("validate", help="check a dataset file row by row, and say what is wrong where")
    parser.add_argument("file", metavar="FILE", help="a converted file, or a published TSV")
    parser.add_argument("--kind", help="its layout: rec, rkpt, rpar, rhrc or person (default: guessed)")
    parser.add_argument("--images", metavar="DIR", help="the folder that paths in rows count from (default: FILE's)")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="print so many wrong rows (default 20)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run_validate)
    parser = commands.add_parser(
        "shard", help="pack a dataset file with its pictures into tar files, for clusters",
        description="Training and evaluation read shards like the file: name them as OUT/train-{000000..000012}.tar.",
    )  # fmt: skip
    parser.add_argument("file", metavar="FILE", help="a converted file, or a published TSV")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the tar files are written")
    parser.add_argument("--size", default="1GB", help="about how large a tar file becomes (default 1GB)")
    parser.add_argument("--kind", help="its layout: rec, rkpt, rpar, rhrc or person (default: guessed)")
    parser.add_argument("--images", metavar="DIR", help="the folder that paths in rows count from (default: FILE's)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run_shard)
    parser = commands.add_parser("leaks", help="find training rows whose pictures are evaluated on")
    parser.add_argument("training", nargs="+", metavar="TRAIN", help="dataset files to train on")
    parser.add_argument("--against", nargs="+", required=True, metavar="EVAL", help="dataset files to evaluate on")
    parser.add_argument("--drop", metavar="OUT", help="write TRAIN without those rows (for one TRAIN)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run_leaks)


def run_convert(arguments: argparse.Namespace) -> int:
    """`refhcm convert`; a tokenizer, where one is named, writes the codes of part maps afterwards.

    0 where anything was written; what was left out is counted and told. A source that gives nothing is an error.
    """
    from .data.converters.command import convert, listing

    if arguments.name is None:
        print(listing())
        return 0
    folder = getattr(arguments, "tokenizer", None)
    tokenizer = None
    if folder:
        from .models.label_map_codes import fill_codes
        from .models.label_map_files import load_label_map

        tokenizer = load_label_map(folder)  # what is wrong with it is said before any work
    report, files = convert(arguments)
    print(report.table())
    for path in files:
        coded = f", codes in {fill_codes(path, path, tokenizer, 'person'):,} rows" if tokenizer else ""
        print(f"written: {path}{coded}")
    return 0


def run_validate(arguments: argparse.Namespace) -> int:
    """`refhcm validate`: 0 when nothing is wrong."""
    from .data.validate import validate

    _check_kind(arguments.kind)
    if arguments.show < 0:
        raise UsageError(f"--show must be at least 0, not {arguments.show}.")
    found = validate(arguments.file, arguments.kind, arguments.images, progress=not arguments.quiet)
    shown = found.first[: arguments.show]
    if arguments.json:
        print(json.dumps({**found.to_dict(), "first": found.to_dict()["first"][: arguments.show]}, indent=1))
        return 1 if found.faults else 0
    for fault in shown:
        print(fault)
    if found.faults > len(shown):
        print(f"... and {found.faults - len(shown):,} more (--show N prints more of them)")
    print(found.summary())
    return 1 if found.faults else 0


def run_shard(arguments: argparse.Namespace) -> int:
    """`refhcm shard`: 1 when rows are left out because they cannot be used."""
    from .data.shard_writer import read_size, write_shards

    _check_kind(arguments.kind)
    size = read_size(arguments.size)
    made = write_shards(
        arguments.file, arguments.out, size, arguments.kind, arguments.images, progress=not arguments.quiet
    )
    for fault in made.left_out[:_SHOWN]:
        print(fault)
    if made.left_out:
        print(f"{len(made.left_out):,} rows are left out (refhcm validate says what is wrong with all of them)")
    print(f"written: {made.name}: {made.rows:,} rows, {made.pictures:,} pictures")
    return 1 if made.left_out else 0


def _check_kind(kind: str | None) -> None:
    from .data.rows import LAYOUTS

    if kind is not None and kind not in LAYOUTS:
        raise UsageError(f"--kind is one of {', '.join(LAYOUTS)}, not {kind!r}.")


def run_leaks(arguments: argparse.Namespace) -> int:
    """`refhcm leaks`: 0 when no picture is in both, or the rows were left out of a new file."""
    from .data.leakage import drop_rows, find_leaks, open_file

    if arguments.drop and len(arguments.training) > 1:
        raise UsageError("--drop writes one file: name one TRAIN at a time.")
    training = [open_file(path) for path in arguments.training]
    found = find_leaks(training, [open_file(path) for path in arguments.against])
    left = drop_rows(training[0], found[0].rows, arguments.drop) if arguments.drop else None
    if arguments.json:
        print(json.dumps([leaks.to_dict() for leaks in found], indent=1))
    else:
        print("\n".join(leaks.sentence() for leaks in found))
    if left is not None:
        print(f"{arguments.drop}: {left:,} rows, without the {len(found[0].rows):,}", file=sys.stderr)
    return 1 if any(leaks.rows for leaks in found) and left is None else 0
