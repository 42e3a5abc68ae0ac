"""Random access to tab-separated files of any size: an index of byte offsets, and the operating system's page
cache."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import RefHCMError

_INDEX_VERSION = 1
_HEADER = 3
"""Numbers before the offsets in an index: version, size of the file in bytes, its time of change in
nanoseconds."""


class BadRow(RefHCMError):
    """A row of a dataset file that cannot be used; the message names the file and the line."""

    def __init__(self, path: str | Path, line: int, why: str) -> None:
        super().__init__(f"{path}, line {line}: {why}")
        self.path, self.line, self.why = str(path), line, why

    def __reduce__(self) -> tuple:
        """Errors cross from loader processes with the arguments they were made of."""
        return type(self), (self.path, self.line, self.why)


class TsvFile:
    """Rows of a tab-separated file without a header, by number.

    `columns` names the fields: a sequence gives the whole row in file order, a mapping gives name -> column
    index (from 0) and ignores other columns. The offsets of the lines are kept in `<file>.index.npy` (plain
    numbers, never pickle) and rebuilt when size or time of change differ; where the folder cannot be written
    they stay in memory. Empty lines are skipped. Reading is thread-safe, and safe after fork or in spawned
    workers (no file position).
    """

    def __init__(self, path: str | Path, columns: Sequence[str] | Mapping[str, int]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise RefHCMError(
                f"There is no dataset file at {self.path}: check the path, or download it first."
            )
        by_name = columns if isinstance(columns, Mapping) else {name: i for i, name in enumerate(columns)}
        self.columns = dict(by_name)
        self.width = max(self.columns.values()) + 1
        self.exact = not isinstance(columns, Mapping)
        self._map: mmap.mmap | None = None
        self._spans, self._lines = self._load_index()

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, row: int) -> dict[str, str]:
        """The fields of row number `row` (from 0); BadRow when columns are missing or the text is not
        UTF-8."""
        return self.read(row, self.columns)

    def read(self, row: int, names: Iterable[str]) -> dict[str, str]:
        """As `[row]`, but only the named fields."""
        fields = self._fields(row)
        try:
            return {name: fields[self.columns[name]].decode("utf-8") for name in names}
        except UnicodeDecodeError as error:
            raise self.bad(row, "the text is not UTF-8.") from error

    def head(self, row: int, names: Iterable[str]) -> dict[str, str]:
        """As `read`, without going through what stands behind the last of the named columns, such as a picture."""
        wanted = {name: self.columns[name] for name in names}
        begin, end = map(int, self._spans[row])
        content, fields, at = self._bytes(), [], begin
        for _ in range(max(wanted.values(), default=-1) + 1):
            stop = content.find(b"\t", at, end)
            fields.append(content[at : end if stop < 0 else stop].rstrip(b"\r\n"))
            at = stop + 1
            if stop < 0:
                break
        if wanted and len(fields) <= max(wanted.values()):
            raise self.bad(row, f"{len(fields)} columns where {self.width} are expected.")
        try:
            return {name: fields[column].decode("utf-8") for name, column in wanted.items()}
        except UnicodeDecodeError as error:
            raise self.bad(row, "the text is not UTF-8.") from error

    def count(self, row: int) -> int:
        """How many columns a row has."""
        return self.raw(row).count(b"\t") + 1

    def raw(self, row: int) -> bytes:
        """A row as it stands in the file, without its line end."""
        begin, end = self._spans[row]
        return self._bytes()[begin:end].rstrip(b"\r\n")

    def line(self, row: int) -> int:
        """The line number (from 1) of a row, as an editor shows it."""
        return int(self._lines[row])

    def bad(self, row: int, why: str) -> BadRow:
        """The error that says what is wrong with a row."""
        return BadRow(self.path, self.line(row), why)

    def _fields(self, row: int) -> list[bytes]:
        fields = self.raw(row).split(b"\t")
        if len(fields) < self.width or (self.exact and len(fields) != self.width):
            raise self.bad(row, f"{len(fields)} columns where {self.width} are expected.")
        return fields

    def _bytes(self) -> mmap.mmap:
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def __getstate__(self) -> dict:
        """Spawned workers map the file themselves."""
        return {**self.__dict__, "_map": None}

    # -- the index -------------------------------------------------------------------------------------------
    def _load_index(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 (n, 2) begin and end of each row in bytes, and int64 (n) line numbers."""
        stat = self.path.stat()
        head = np.array([_INDEX_VERSION, stat.st_size, stat.st_mtime_ns], np.int64)
        stored = _read_index(index_path(self.path))
        if stored is None or len(stored) <= _HEADER or not np.array_equal(stored[:_HEADER], head):
            stored = np.concatenate([head, _scan(self._bytes() if stat.st_size else b"")])
            _write_index(index_path(self.path), stored)
        ends = stored[_HEADER:]
        spans = np.stack([ends[:-1], ends[1:]], axis=1)
        filled = np.ones(len(spans), bool)
        for line in np.flatnonzero(spans[:, 1] - spans[:, 0] <= len("\r\n")):
            filled[line] = bool(self._bytes()[slice(*spans[line])].strip(b"\r\n"))
        return spans[filled], np.flatnonzero(filled) + 1


def index_path(path: Path) -> Path:
    """Where the offsets of a file's lines are kept."""
    return path.with_name(path.name + ".index.npy")


def _scan(content: mmap.mmap | bytes) -> np.ndarray:
    """int64: 0, and the byte behind each line of the file."""
    ends = [0]
    while (at := content.find(b"\n", ends[-1])) >= 0:
        ends.append(at + 1)
    if ends[-1] < len(content):
        ends.append(len(content))
    return np.array(ends, np.int64)


def _read_index(path: Path) -> np.ndarray | None:
    try:
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return (
        stored if isinstance(stored, np.ndarray) and stored.dtype == np.int64 and stored.ndim == 1 else None
    )


def _write_index(path: Path, index: np.ndarray) -> None:
    """Write beside the file, whole or not at all; a folder that cannot be written is no error."""
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.save(file, index, allow_pickle=False)
        os.replace(part, path)
    except OSError:
        return
