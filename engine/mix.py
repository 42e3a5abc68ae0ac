"""Which files a run reads, and for which tasks: a pair of TSV files, or a mix described in JSON.

    {"streams": [{"file": "{split}/rec.tsv", "kind": "rec", "tasks": ["rec"], "weight": 2, "grouped": 4},
                 {"file": "{split}/all.tsv", "columns": {"id": 0, "text": 1, "box": 2, "keypoints": 3,
                  "codes": 4, "image": 5}, "tasks": ["rkpt", "s1"], "one_task": true}],
     "joint": false, "length": 20000}

`{split}` becomes fairseq's name of the subset (train, valid, ...). `kind` is a published layout of columns
(`data.dataset.LAYOUTS`), `columns` any other. `weight`, `joint`, `length`: see `MultiTaskDataset`; `grouped` (rows of
one picture per item) and `one_task`: see `SampleDataset`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.dataset import LAYOUTS
from ..data.json_file import read_json
from ..data.rows import guess_kind
from ..errors import RefHCMError
from ..tasks import names

_LIMIT = 1 << 20
"""Bytes; a mix has a few lines."""

LAYOUT_OF = {
    "rec": "rec", "rkpt": "rkpt", "rpar": "rpar", "rpar_full_mask": "rpar", "rhrc": "rhrc", "s1": "person",
    "res": "person", "s1_mask": "person", "roi": "person", "grec": "person", "people": "person",
}  # fmt: skip
"""Task -> the layout of the file that a single task is trained on: the published one, where there is one."""


@dataclass(frozen=True)
class Stream:
    """One file and what is asked about its rows."""

    file: str
    tasks: tuple[str, ...]
    kind: str = ""
    columns: Mapping[str, int] | None = None
    weight: float = 1.0
    grouped: int = 1
    one_task: bool = False


@dataclass(frozen=True)
class Mix:
    """What one epoch is drawn from."""

    streams: tuple[Stream, ...]
    joint: bool = False
    length: int | None = None


def read_mix(path: str | Path) -> Mix:
    """The mix that a JSON file describes; RefHCMError says what is wrong with it."""
    path = Path(path)
    kinds = {"streams": list, "joint": bool, "length": int}
    content = _checked(read_json(path, dict, _LIMIT), kinds, ("streams",), str(path))
    streams = [_stream(entry, f"{path}, stream {n}") for n, entry in enumerate(content["streams"], 1)]
    if not streams:
        raise RefHCMError(f"{path} lists no streams.")
    if content.get("length", 1) < 1:
        raise RefHCMError(f"{path}: length must be at least 1.")
    return Mix(tuple(streams), content.get("joint", False), content.get("length"))


def single(task: str, data: str, split: str, epoch: int) -> Mix:
    """One task on `TRAIN.tsv[,TRAIN2.tsv...],VALID.tsv`, as published: each epoch takes the next training file.

    A file may be of another kind than the published one of its task, such as our own; its columns tell.
    """
    paths = [path for path in data.split(",") if path]
    if task not in LAYOUT_OF or not paths:
        raise RefHCMError(
            f"The data of task {task} must be a .json file that names its files and columns, not {data!r}."
        )
    training = paths[:-1] or paths
    path = training[(epoch - 1) % len(training)] if split.startswith("train") else paths[-1]
    return Mix((Stream(path, (task,), _kind(path, task)),))


def _kind(path: str, task: str) -> str:
    published = LAYOUT_OF[task]
    try:
        found = guess_kind(path)
    except (RefHCMError, OSError):  # what is wrong with the file or its first row is said when it is read
        return published
    return published if len(LAYOUTS[found]) == len(LAYOUTS[published]) else found


def _stream(entry: Any, where: str) -> Stream:
    kinds = {
        "file": str, "tasks": list, "kind": str, "columns": dict, "weight": (int, float), "grouped": int,
        "one_task": bool,
    }  # fmt: skip
    entry = _checked(entry, kinds, ("file", "tasks"), where)
    unknown = [name for name in entry["tasks"] if name not in names()]
    if unknown or not entry["tasks"]:
        raise RefHCMError(f"{where}: tasks must be some of {', '.join(names())}, not {entry['tasks']}.")
    columns = entry.get("columns")
    if columns is None and entry.get("kind") not in LAYOUTS:
        raise RefHCMError(f"{where} needs columns, or a kind: {', '.join(LAYOUTS)}.")
    if columns is not None and not all(type(at) is int and at >= 0 for at in columns.values()):
        raise RefHCMError(f"{where}: columns maps names of fields to column numbers from 0.")
    if entry.get("weight", 1) <= 0 or entry.get("grouped", 1) < 1:
        raise RefHCMError(f"{where}: weight must be above 0 and grouped at least 1.")
    return Stream(**{**entry, "tasks": tuple(entry["tasks"])})


def _checked(entry: Any, kinds: Mapping[str, Any], needed: Sequence[str], where: str) -> dict[str, Any]:
    """`entry` when it is an object with only known names of the right types; otherwise RefHCMError."""
    if not isinstance(entry, dict):
        raise RefHCMError(f"{where} must be a JSON object.")
    for name, value in entry.items():
        if name not in kinds:
            raise RefHCMError(f"{where} has an unknown entry {name!r}; known are {', '.join(kinds)}.")
        if not isinstance(value, kinds[name]) or (isinstance(value, bool) and kinds[name] is not bool):
            raise RefHCMError(f"{where}: {name} has the wrong type.")
    missing = [name for name in needed if name not in entry]
    if missing:
        raise RefHCMError(f"{where} lacks {missing[0]!r}.")
    return entry
