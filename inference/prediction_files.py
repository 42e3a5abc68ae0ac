"""Answers on their way to a folder, so that an evaluation that was cut off goes on where it was, and figures can be
computed again without the model.

    FOLDER/TASK.jsonl             a line per question (see `predictions`), in the order of the dataset file
    FOLDER/TASK.settings.json     what the answers depend on: only an evaluation of the same may add to them
    FOLDER/TASK.part3.jsonl       while several processes answer: what process 3 has; taken into TASK.jsonl at the end
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..data.commands import writable_folder
from ..data.json_file import read_json
from ..errors import RefHCMError
from .predictions import Line
from .ranks import Ranks

FORMAT = 1
Done = dict[int, dict[str, float]]
"""Numbers of rows that have been answered, with the rows' own figures."""
SETTINGS = ".settings.json"
"""Ending of the file that says what a task's answers depend on."""


class Store(Protocol):
    """Where the lines of one task go as they come, in one process of several."""

    def begin(self, settings: Mapping[str, Any], about: Mapping[str, Any]) -> Done:
        """What is there already. Every process calls this once, and `finish`."""
        ...

    def add(self, lines: Iterable[Line]) -> None:
        """Keep lines, whatever happens afterwards."""
        ...

    def finish(self) -> list[Line]:
        """All lines of all processes in order of rows; in processes other than rank 0, none."""
        ...


class Memory:
    """Keeps lines as long as the process lives."""

    def __init__(self, ranks: Ranks | None = None) -> None:
        self.ranks, self._lines = ranks or Ranks(), list[Line]()

    def begin(self, settings: Mapping[str, Any], about: Mapping[str, Any]) -> Done:
        """Nothing is there."""
        return {}

    def add(self, lines: Iterable[Line]) -> None:
        """Keep lines."""
        self._lines += lines

    def finish(self) -> list[Line]:
        """All lines in order of rows, in rank 0."""
        lines = [line for lines in self.ranks.gather(self._lines) for line in lines]
        return sorted(lines, key=lambda line: line["row"])


class Folder:
    """Keeps lines in a folder, which all processes see under one path."""

    def __init__(self, folder: str | Path, task: str, ranks: Ranks | None = None) -> None:
        self.folder, self.task, self.ranks = Path(folder), task, ranks or Ranks()
        self.path = self.folder / f"{task}.jsonl"
        alone = self.ranks.world == 1
        self._mine = self.path if alone else self.folder / f"{task}.part{self.ranks.rank}.jsonl"

    def begin(self, settings: Mapping[str, Any], about: Mapping[str, Any]) -> Done:
        """What an earlier evaluation of the same left here. `about` is kept for readers and not compared.

        A last line that was cut off is taken away. RefHCMError where what is here was answered under other settings.
        """
        return self.ranks.first(lambda: self._begin(settings, about))

    def add(self, lines: Iterable[Line]) -> None:
        """Append lines; they are the system's to write by the time this returns."""
        text = _text(lines)
        with self._mine.open("a", encoding="ascii") as file:
            file.write(text)

    def finish(self) -> list[Line]:
        """All lines in order of rows, as they now stand in the one file, in rank 0."""
        self.ranks.gather(None)  # all have written
        return self.ranks.lead(lambda: list(self._gather().values())) or []

    def _begin(self, settings: Mapping[str, Any], about: Mapping[str, Any]) -> Done:
        writable_folder(self.folder)
        self._hold()
        note = self.folder / f"{self.task}{SETTINGS}"
        wanted = {"format": FORMAT, **settings}
        if note.is_file():
            _compare(wanted, _read_settings(note), note)
        elif self.path.exists():
            raise RefHCMError(f"{self.path} stands there without {note.name}: name another folder with --out.")
        content = {"task": self.task, "settings": wanted, "about": about}
        _write(note, json.dumps(content, indent=1) + "\n")
        return {row: line.get("figures", {}) for row, line in self._gather().items()}

    def _hold(self) -> None:
        """Keep other evaluations out as long as this process lives, on file systems that have locks."""
        self._lock = (self.folder / f".{self.task}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefHCMError(f"Another evaluation is writing to {self.path}: wait for it, or stop it.") from error
        except OSError:
            return

    def _gather(self) -> dict[int, Line]:
        """Take everything into the one file: number of row -> line, in order of rows."""
        parts = sorted(self.folder.glob(f"{self.task}.part*.jsonl"))
        found: dict[int, Line] = {}
        ordered = True
        for path in [*([self.path] if self.path.exists() else []), *parts]:
            for line in read_lines(path, mend=True):
                ordered = ordered and line["row"] > max(found, default=-1)
                found.setdefault(line["row"], line)
        found = dict(sorted(found.items()))
        if parts or not ordered:
            _write(self.path, _text(found.values()))
            for path in parts:
                path.unlink()
        return found


def read_lines(path: str | Path, mend: bool = False) -> list[Line]:
    """The lines of a file of answers. With `mend` a last line that was cut off is taken out of the file, without it
    left out. RefHCMError, which names the line, for any other that is none of ours."""
    path = Path(path)
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if mend and whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    lines = []
    for number, text in enumerate(content[:whole].splitlines(), 1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict) or type(line["row"]) is not int:
                raise ValueError("it has no number of a row")
        except (ValueError, KeyError, RecursionError) as error:
            raise RefHCMError(f"{path}, line {number} is no answer as evaluation saves it ({error}).") from error
        lines.append(line)
    return lines


def saved_tasks(folder: str | Path) -> list[str]:
    """The tasks whose answers are in a folder; RefHCMError where there are none."""
    names = sorted(path.name.removesuffix(SETTINGS) for path in Path(folder).glob(f"*{SETTINGS}"))
    if not names:
        for task in unexplained(folder):
            raise RefHCMError(without_settings(folder, task))
        raise RefHCMError(f"There are no saved answers in {folder}: name a folder that was given to --out.")
    return names


def unexplained(folder: str | Path) -> list[str]:
    """The tasks of which a folder holds answers, and nothing that says what they depend on."""
    names = {path.name.partition(".")[0] for path in Path(folder).glob("*.jsonl")}
    return sorted(name for name in names if name and not (Path(folder) / f"{name}{SETTINGS}").is_file())


def without_settings(folder: str | Path, task: str) -> str:
    """What is to be said of such a task."""
    return f"{Path(folder) / task}.jsonl stands there without {task}{SETTINGS}, which says what its answers depend on."


def saved(folder: str | Path, task: str) -> tuple[dict[str, Any], list[Line]]:
    """What was noted about a task's answers, and those that are there, in order of rows; nothing is written."""
    folder = Path(folder)
    note = _read_settings(folder / f"{task}{SETTINGS}")
    found: dict[int, Line] = {}
    for path in [folder / f"{task}.jsonl", *sorted(folder.glob(f"{task}.part*.jsonl"))]:
        for line in read_lines(path) if path.exists() else []:
            found.setdefault(line["row"], line)
    return note, [found[row] for row in sorted(found)]


def _read_settings(path: Path) -> dict[str, Any]:
    content = read_json(path, dict)
    if not isinstance(content.get("settings"), dict) or not isinstance(content.get("about"), dict):
        raise RefHCMError(f"{path} does not say what the answers beside it depend on: name another folder with --out.")
    return content


def _compare(wanted: Mapping[str, Any], content: Mapping[str, Any], path: Path) -> None:
    there = content["settings"]
    names = sorted({name for name in (*wanted, *there) if wanted.get(name) != there.get(name)})
    if names:
        told = ", ".join(f"{name} {there.get(name)!r}, not {wanted.get(name)!r}" for name in names)
        raise RefHCMError(
            f"{path.parent} holds answers under other settings ({told}): give the same options to go on with them, or "
            "name another folder with --out."
        )


def _text(lines: Iterable[Line]) -> str:
    return "".join(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n" for line in lines)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
