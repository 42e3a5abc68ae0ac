"""Random access to tab-separated files of any size: an index of byte offsets, and the operating system's page
cache."""

from __future__ import annotations

import codecs
import mmap
import os
import shutil
import tempfile
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import RefHCMError
from .fields import decode_base64, is_path
from .row_file import BadRow, RowFile

__all__ = ["BadRow", "TsvFile", "index_path", "read_index", "write_index"]

_INDEX_VERSION = 2
_HEADER = 4
"""Numbers before the others in an index: version, size of the file in bytes, its time of change in nanoseconds, and how
many others there are."""
_TRIED = 10
"""Rows that are looked at before an index is kept: a few of the first may be bad."""
_TIP = 2048
"""Bytes at each end of a picture that tell it from others: there lie a file's tables and its last pixels."""

_SAMPLE = 64
"""Rows of a stored index that are compared with the file."""
_NEWLINE, _RETURN = b"\n\r"


class TsvFile(RowFile):
    """Rows of a tab-separated file without a header, by number.

    The offsets of the lines are kept in `<file>.index.npy` (plain numbers, never pickle; mapped into memory, so that
    all processes of a machine share them) and found anew when size or time of change differ, or the places of a sample
    of rows; where the folder cannot be written, or none of the first rows has the columns of a dataset, they stay in
    memory. Several processes may open a file at once: each that finds no index writes one, whole. Empty lines are
    skipped, line ends of Windows and a mark of UTF-8 at the beginning are no part of a field. Reading is thread-safe,
    and safe after fork or in spawned workers (no file position).
    """

    def __init__(
        self, path: str | Path, columns: Sequence[str] | Mapping[str, int], counts: Collection[int] = ()
    ) -> None:
        super().__init__(path, columns, counts)
        if not self.path.is_file():
            raise RefHCMError(f"There is no dataset file at {self.path}: check the path, or download it first.")
        self._map: mmap.mmap | None = None
        self._load_index()

    def __len__(self) -> int:
        return len(self._rows)

    def raw(self, row: int) -> bytes:
        """See `RowFile`."""
        begin, end = self._span(row)
        return self._bytes()[begin:end]

    def line(self, row: int) -> int:
        """See `RowFile`."""
        return int(self._rows[row, 2])

    def head(self, row: int, names: Iterable[str]) -> dict[str, str]:
        """As `read`, without going through what stands behind the last of the named columns, such as a picture."""
        wanted = {name: self.columns[name] for name in names}
        spans = self._columns(row, max(wanted.values(), default=-1))
        if wanted and len(spans) <= max(wanted.values()):
            raise self.short(row, len(spans))
        content = self._bytes()
        return self.decoded(row, {name: content[slice(*spans[column])] for name, column in wanted.items()})

    def picture(self, row: int, value: str) -> bytes | None:
        """Decoded base64, or None for a path."""
        return None if is_path(value) else decode_base64(value)

    def picture_name(self, row: int) -> str:
        """The path; or for base64 a checksum of its two ends, because all of a large file would take minutes."""
        at, content = self.columns["image"], self._bytes()
        before = self._columns(row, at - 1)
        begin, end = (before[-1][1] + 1 if before else self._span(row)[0]), self._span(row)[1]
        if begin > end:
            raise self.short(row, len(before))
        # A picture at the end of a row, where all layouts have it, is not gone through.
        if at < self.width - 1 and (stop := content.find(b"\t", begin, end)) >= 0:
            end = stop
        first, last = content[begin : min(end, begin + _TIP)], content[max(begin, end - _TIP) : end]
        if is_path(last.decode("utf-8", "replace")):
            return self.head(row, ["image"])["image"]
        return f"{end - begin}-{zlib.crc32(first + last):08x}"

    def _columns(self, row: int, last: int) -> list[tuple[int, int]]:
        """First and end byte of the columns of a row, up to the one called `last` at most."""
        content, (begin, end) = self._bytes(), self._span(row)
        spans = []
        for _ in range(last + 1):
            stop = content.find(b"\t", begin, end)
            spans.append((begin, end if stop < 0 else stop))
            if stop < 0:
                break
            begin = stop + 1
        return spans

    def _span(self, row: int) -> tuple[int, int]:
        """First and end byte of a row, without its line end."""
        begin, end, _ = map(int, self._rows[row])
        return begin, end

    def _bytes(self) -> mmap.mmap:
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def __getstate__(self) -> dict:
        """Spawned workers map the file themselves."""
        return {**self.__dict__, "_map": None}

    def _load_index(self) -> None:
        """Fill `_rows`, int64 (rows, 3): first byte, end (without the line end) and line number (from 1) of each."""
        place, stat = index_path(self.path), self.path.stat()
        stored = read_index(place, _INDEX_VERSION, stat)
        if stored is not None and len(stored) and not _is_of(stored.reshape(-1, 3), self._bytes()):
            stored = None
        known = stored is not None
        if stored is None:
            stored = _scan(self._bytes()) if stat.st_size else np.empty(0, np.int64)
        self._rows = stored.reshape(-1, 3)
        if not known and self._is_ours():
            write_index(place, _INDEX_VERSION, stat, stored, self.path)

    def _is_ours(self) -> bool:
        """Whether one of the first rows has the columns that are expected: the path may be that of any other file."""
        most = max(self.counts, default=self.width)
        return any(self.fits(len(self._columns(row, most))) for row in range(min(len(self), _TRIED)))


def _scan(content: mmap.mmap) -> np.ndarray:
    """int64: first byte, end (without the line end) and line number of each line that is not empty."""
    ends = [len(codecs.BOM_UTF8) if content[:3] == codecs.BOM_UTF8 else 0]
    while (at := content.find(b"\n", ends[-1])) >= 0:
        ends.append(at + 1)
    if ends[-1] < len(content):
        ends.append(len(content))
    begins, ends_ = np.array(ends[:-1], np.int64), np.array(ends[1:], np.int64)
    letters = np.frombuffer(content, np.uint8)
    for mark in b"\n\r":
        ends_ -= (ends_ > begins) & (letters[ends_ - 1] == mark)
    rows = np.stack([begins, ends_, np.arange(1, len(ends))], axis=1)
    return rows[ends_ > begins].ravel()


def _is_of(rows: np.ndarray, content: mmap.mmap) -> bool:
    """Whether rows begin and end where lines do, in a sample: size and time of a file are also those of another that
    was put in its place by a copy that keeps times."""
    for row in np.unique(np.linspace(0, len(rows) - 1, _SAMPLE).astype(np.int64)):
        begin, end = map(int, rows[row, :2])
        if not 0 <= begin < end <= len(content):
            return False
        mark = begin == len(codecs.BOM_UTF8) and content[:begin] == codecs.BOM_UTF8
        if begin and not mark and content[begin - 1] != _NEWLINE:
            return False
        if end < len(content) and content[end] not in (_NEWLINE, _RETURN):
            return False
    return True


# -- indices -------------------------------------------------------------------------------------------------
def index_path(path: Path) -> Path:
    """Where the index of a file is kept."""
    return path.with_name(path.name + ".index.npy")


def read_index(path: Path, version: int, stat: os.stat_result) -> np.ndarray | None:
    """The numbers that `write_index` wrote for a file of this `stat`, mapped into memory; None where there are none, or
    the file has changed since."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(stored, np.ndarray) or stored.dtype != np.int64 or stored.ndim != 1:
        return None
    head = _head(version, stat, len(stored) - _HEADER)
    return np.asarray(stored[_HEADER:]) if np.array_equal(stored[:_HEADER], head) else None


def write_index(path: Path, version: int, stat: os.stat_result, numbers: np.ndarray, model: Path) -> None:
    """Keep int64 numbers for a file, whole or not at all, with the permissions of `model`; a folder that cannot be
    written is no error."""
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, np.concatenate([_head(version, stat, len(numbers)), numbers]), allow_pickle=False)
        shutil.copymode(model, part)
        os.replace(part, path)
    except OSError:
        os.unlink(part)


def _head(version: int, stat: os.stat_result, count: int) -> np.ndarray:
    return np.array([version, stat.st_size, stat.st_mtime_ns, count], np.int64)
