"""Which pictures two dataset files share: a model must not be scored on pictures that it was trained on.

Pictures are told apart by the number that COCO gave them, wherever a row states it: as its image id, or in the name of
its picture file. Other sets have ids of their own (`cihp:0000006`); rows without any are compared by their picture.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import RefHCMError
from .fields import is_path
from .row_file import BadRow, RowFile
from .rows import open_rows
from .tsv import TsvFile

_COCO_NAME = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})(?:_\d+)*", re.ASCII)
_CIHP_ROW = re.compile(r"(\d{7})_\d+", re.ASCII)
_NAMED = 5


def coco_id(name: str) -> int | None:
    """The COCO image id in the name of a picture, such as `train2014/COCO_train2014_000000000110.jpg`,
    `000000000110.jpg`, or the `COCO_train2014_000000000110_6.jpg` of referring sets, which is no file; None in others.
    """
    match = _COCO_NAME.fullmatch(PurePosixPath(name.replace("\\", "/")).stem)
    return int(match[1]) if match else None


@dataclass
class Leaks:
    """What a training file shares with the files that are to be evaluated on."""

    path: Path
    rows: list[int] = field(default_factory=list)
    """Numbers (from 0) of the training rows whose picture is also in the others."""
    pictures: dict[str, str] = field(default_factory=dict)
    """Each such picture -> where it stands: `line 4 and line 7 of FILE`."""
    unnamed: int = 0
    """Training rows that name no picture id, and were compared by the picture's file or content alone."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON; rows are counted from 0."""
        return {"file": str(self.path), "rows": self.rows, "pictures": self.pictures, "rows_without_id": self.unnamed}

    def sentence(self) -> str:
        """What was found, with examples."""
        if not self.rows:
            unsure = f" ({self.unnamed:,} rows have no picture id: compared by file or content)" if self.unnamed else ""
            return f"{self.path}: no picture in common{unsure}."
        examples = "; ".join(f"{key} in {where}" for key, where in list(self.pictures.items())[:_NAMED])
        return (
            f"{self.path} shares {len(self.pictures):,} pictures ({len(self.rows):,} rows) with the evaluation, "
            f"such as {examples}."
        )


def picture_id(file: RowFile, row: int) -> tuple[str, bool]:
    """What tells the picture of a row from others, and whether that is an id. Raises BadRow where it cannot be read."""
    names = [name for name in ("id", "image_id") if name in file.columns]
    fields = file.head(row, names)
    key = _stated_id(fields.get("image_id", ""))
    if not key and "image_id" not in file.columns and (match := _CIHP_ROW.fullmatch(fields.get("id", ""))):
        key = f"cihp:{match[1]}"  # rpar and rhrc are CIHP's people
    return (key, True) if key else _by_picture(file, row)


def _stated_id(stated: str) -> str:
    if stated.isascii() and stated.isdigit():
        return f"COCO {int(stated)}"
    number = coco_id(stated)
    return stated if number is None else f"COCO {number}"


def _by_picture(file: RowFile, row: int) -> tuple[str, bool]:
    value = file.head(row, ["image"])["image"]
    if not is_path(value):
        try:
            content = file.picture(row, value) or b""
        except RefHCMError as error:
            raise file.bad(row, str(error)) from error
        return f"picture {len(content)}-{zlib.crc32(content):08x}", False
    number = coco_id(value)
    return (value, False) if number is None else (f"COCO {number}", True)


def open_file(path: str | Path) -> RowFile:
    """A dataset file of any kind, or shards; RefHCMError where it is of none."""
    return open_rows(path)


def find_leaks(training: Iterable[RowFile], evaluation: Iterable[RowFile]) -> list[Leaks]:
    """What each of the training files shares with any of the evaluation files.

    Training rows that cannot be read are passed over, since whoever trains on them counts them and sets them aside;
    BadRow for one of an evaluation file.
    """
    held: dict[str, str] = {}
    for file in evaluation:
        for row in range(len(file)):
            held.setdefault(picture_id(file, row)[0], f"line {file.line(row)} of {file.path.name}")
    found = []
    for file in training:
        leaks = Leaks(file.path)
        for row in range(len(file)):
            try:
                key, named = picture_id(file, row)
            except BadRow:
                continue
            leaks.unnamed += not named
            if key in held:
                leaks.rows.append(row)
                leaks.pictures.setdefault(key, f"line {file.line(row)} and {held[key]}")
        found.append(leaks)
    return found


def refuse_leaks(training: Iterable[RowFile], evaluation: Sequence[RowFile]) -> None:
    """RefHCMError, with counts and examples, where a training file has a picture of an evaluation file."""
    for leaks in find_leaks(training, evaluation):
        if leaks.rows:
            against = " ".join(str(file.path) for file in evaluation)
            raise RefHCMError(
                f"{leaks.sentence()} Train without them: refhcm leaks {leaks.path} --against {against} --drop OUT.tsv "
                "writes such a file."
            )


def drop_rows(file: RowFile, rows: Sequence[int], out: str | Path) -> int:
    """Copy a file without some of its rows (numbers from 0); gives how many are left.

    `out` appears when it is complete. RefHCMError where it would lie in another folder than the pictures that its rows
    name by path, or take the place of the file itself.
    """
    path, out = file.path, Path(out)
    if not isinstance(file, TsvFile):
        raise RefHCMError(f"{path} is a file of shards: leave the rows out of the TSV file, and make shards of that.")
    if out.exists() and out.samefile(path):
        raise RefHCMError(f"{out} is the file that rows are left out of: name another.")
    named = file.head(0, [name for name in ("image", "parts") if name in file.columns])
    if out.resolve().parent != path.resolve().parent and any(is_path(value) for value in named.values()):
        raise RefHCMError(f"{path} names files by path, from its own folder: write {out.name} there too.")
    left = np.setdiff1d(np.arange(len(file)), rows)
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as target:
            target.writelines(file.raw(int(row)) + b"\n" for row in left)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return len(left)
