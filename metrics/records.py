"""The figures of a training run, one JSON object per line: written as they come, read back without what was undone.

    {"kind": "run", "update": 120, "wall": 410.2, "time": "2025-05-01T12:00:00+00:00", ...}
    {"kind": "train", "update": 150, "epoch": 3, "wall": 502.9, "loss": 2.31, "rec/nll": 1.9, "lr": 3e-05, ...}
    {"kind": "valid", "subset": "valid", "update": 200, ..., "rec/box_acc@0.5": 0.71}

`run` says that a process began, or went on, after `update` updates; what stands above it with a higher `update` was
undone by that and done again. `train` holds means since the last such line, `epoch` those of a whole epoch of training.
`wall` is seconds of training, over all restarts. A figure that is not finite is null.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import RefHCMError

Record = dict[str, Any]


class RecordFile:
    """Appends to such a file; every line is on its way to the disk before the next is written."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._start = time.monotonic()

    def begin(self, update: int, **said: Any) -> None:
        """A process begins, or goes on, after `update` updates. A line that a crash cut short is taken away."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(self.path)
        earlier = read_records(self.path, up_to=update) if self.path.exists() and update else []
        spent = max((float(record.get("wall", 0)) for record in earlier), default=0.0)
        self._start = time.monotonic() - spent
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.write("run", update, {"time": now, **said})

    @property
    def wall(self) -> float:
        """Seconds of training, over all restarts."""
        return time.monotonic() - self._start

    def write(self, kind: str, update: int, figures: Mapping[str, Any]) -> None:
        """One line; `figures` are numbers, strings or None."""
        record: Record = {"kind": kind, "update": update, "wall": round(self.wall, 2)}
        record |= {name: _plain(value) for name, value in figures.items()}
        with self.path.open("a", encoding="utf-8") as file:  # one write: readers never meet half a line of another's
            file.write(json.dumps(record, allow_nan=False) + "\n")


def read_records(path: str | Path, kind: str | None = None, up_to: int | None = None) -> list[Record]:
    """The lines of a metrics file in order, without what a restart undid; those of one `kind`, or all.

    `up_to` leaves out what came after so many updates. A last line that is still being written is not read.
    RefHCMError where there is no such file, or another line is not a record.
    """
    path = Path(path)
    if not path.is_file():
        raise RefHCMError(f"There is no metrics file at {path}: training writes one into its --save-dir.")
    kept: list[Record] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                break
            record = _parse(line, f"{path}, line {number}")
            if record["kind"] == "run":
                kept = [other for other in kept if other["update"] <= record["update"]]
            kept.append(record)
    if up_to is not None:
        kept = [record for record in kept if record["update"] <= up_to]
    return [record for record in kept if kind in (None, record["kind"])]


def _parse(line: str, where: str) -> Record:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise RefHCMError(f"{where} is not JSON ({error}): this is no metrics file of a run; move it away.") from error
    if not isinstance(record, dict) or "kind" not in record or not isinstance(record.get("update"), int):
        raise RefHCMError(f"{where} has no kind and update: this is no metrics file of a run; move it away.")
    return record


def _plain(value: Any) -> Any:
    """A number that JSON holds (6 significant digits are plenty for a figure), or what is no number as it is."""
    if isinstance(value, bool | int | str | list) or value is None:
        return value
    number = float(value)
    return float(f"{number:.6g}") if math.isfinite(number) else None


def _drop_torn_line(path: Path) -> None:
    """Cut off what stands behind the last line's end."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 4096)
            file.seek(start)
            place = file.read(end - start).rfind(b"\n")
            if place >= 0:
                file.truncate(start + place + 1)
                return
            end = start
        file.truncate(0)
