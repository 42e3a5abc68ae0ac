"""Dataset files as tar shards: few large files in place of a hundred thousand small ones, as cluster file systems like.

    refhcm shard train.tsv --out shards --size 1GB       makes shards/train-000000.tar, shards/train-000001.tar, ...

Wherever a dataset file is named, so can be one shard or all of them, as `shards/train-{000000..000012}.tar`. A tar
holds samples in the WebDataset convention, one per picture: `000000042.jpg` is the picture file as it was,
`000000042.tsv` its rows, each with its line number in the original file before it, `000000042.0.png` and so on their
part maps. Rows keep the order of the original file, and are read by number through an index of byte offsets beside each
tar (plain numbers, see `tsv.read_index`), so that training and evaluation see exactly what they would see of the
original: nothing is streamed, and a run can be resumed anywhere. The library is needed for writing only
(`shard_writer`).
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import RefHCMError
from .row_file import RowFile
from .tsv import index_path, read_index, write_index

ROWS = "tsv"
"""Ending of the member that holds a picture's rows."""
PICTURE = "picture"
_INDEX_VERSION = 1001
_ROW = 7
"""Numbers per row of an index: line in the original file, begin and length of the row, begin and length of its picture,
first of its sample's part maps, and how many these are."""
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MEMBER = re.compile(r"(\d{9,18})\.(?:(\d+)\.)?(\w+)", re.ASCII)


def is_shards(path: str | Path) -> bool:
    """Whether a name is that of shards."""
    return str(path).endswith(".tar")


def shard_paths(path: str | Path) -> list[Path]:
    """The shards that a name stands for, which may hold one range like {000000..000012}; RefHCMError where one of them
    is missing."""
    found = _BRACES.search(str(path))
    names = [str(path)]
    if found:
        first, last = found.groups()
        if int(last) < int(first):
            raise RefHCMError(f"{path}: the range ends before it begins.")
        numbers = range(int(first), int(last) + 1)
        names = [_BRACES.sub(f"{number:0{len(first)}d}", str(path), count=1) for number in numbers]
    missing = [name for name in names if not Path(name).is_file()]
    if missing:
        more = f" (and {len(missing) - 1:,} others)" if len(missing) > 1 else ""
        raise RefHCMError(f"There is no shard at {missing[0]}{more}: check the path, or make it with refhcm shard.")
    return [Path(name) for name in names]


class ShardFiles(RowFile):
    """The rows of tar shards by number, in the order of the file that they were made of.

    Safe after fork and in spawned workers (reads name their position). RefHCMError for tars that were not made by
    `refhcm shard`, and where two of them hold the same line.
    """

    def __init__(
        self, path: str | Path, columns: Sequence[str] | Mapping[str, int], counts: Collection[int] = ()
    ) -> None:
        super().__init__(path, columns, counts)
        self.shards = shard_paths(path)
        self._files: dict[int, int] = {}
        indices = [_load_index(shard) for shard in self.shards]
        maps = [places for _, places in indices]
        table = np.concatenate([rows for rows, _ in indices])
        owner = np.repeat(np.arange(len(indices)), [len(rows) for rows, _ in indices])
        table[:, 5] += np.cumsum([0, *map(len, maps)])[owner]
        order = np.argsort(table[:, 0], kind="stable")
        self._rows, self._shard, self._maps = table[order], owner[order], np.concatenate(maps)
        twice = np.flatnonzero(np.diff(self._rows[:, 0]) == 0)
        if len(twice):
            one, other = (self.shards[self._shard[at]].name for at in (twice[0], twice[0] + 1))
            raise RefHCMError(f"{one} and {other} both hold line {self.line(int(twice[0]))}: name shards of one file.")

    def __len__(self) -> int:
        return len(self._rows)

    def raw(self, row: int) -> bytes:
        """See `RowFile`; the picture column holds a path, or the name of the picture's sample."""
        return self._read(int(self._shard[row]), *map(int, self._rows[row, 1:3]))

    def line(self, row: int) -> int:
        """The line number (from 1) of a row in the original file."""
        return int(self._rows[row, 0])

    def picture(self, row: int, value: str) -> bytes | None:
        """The picture file of a row, whatever its field says."""
        return self._read(int(self._shard[row]), *map(int, self._rows[row, 3:5]))

    def picture_name(self, row: int) -> str:
        """Where the picture lies."""
        return f"{self._shard[row]}:{self._rows[row, 3]}"

    def part_map(self, value: str) -> bytes | None:
        """The file of a part map that a row names; RefHCMError where there is none."""
        found = _MEMBER.fullmatch(value)
        row = int(np.searchsorted(self._rows[:, 0], int(found[1]))) if found else len(self)
        if row >= len(self) or not found or self.line(row) != int(found[1]) or found[2] is None:
            raise RefHCMError(f"there is no part map {value} in the shards.")
        first, count = map(int, self._rows[row, 5:7])
        if int(found[2]) >= count:
            raise RefHCMError(f"there is no part map {value} in the shards.")
        return self._read(int(self._shard[row]), *map(int, self._maps[first + int(found[2])]))

    def _read(self, shard: int, begin: int, length: int) -> bytes:
        if shard not in self._files:
            self._files[shard] = os.open(self.shards[shard], os.O_RDONLY)
        content = os.pread(self._files[shard], length, begin)
        if len(content) != length:
            raise RefHCMError(f"{self.shards[shard]} is cut off: get a whole copy of it.")
        return content

    def __getstate__(self) -> dict:
        """Spawned workers open the shards themselves."""
        return {**self.__dict__, "_files": {}}

    def __del__(self) -> None:
        for handle in getattr(self, "_files", {}).values():
            os.close(handle)


# -- the index of a shard ------------------------------------------------------------------------------------
def _load_index(shard: Path) -> tuple[np.ndarray, np.ndarray]:
    """int64 (rows, `_ROW`), and begin and length (maps, 2) of the part maps."""
    place, stat = index_path(shard), shard.stat()
    stored = read_index(place, _INDEX_VERSION, stat)
    if stored is None:
        stored = _scan(shard)
        write_index(place, _INDEX_VERSION, stat, stored, shard)
    end = 1 + int(stored[0]) * _ROW
    return stored[1:end].reshape(-1, _ROW), stored[end:].reshape(-1, 2)


def _scan(shard: Path) -> np.ndarray:
    """int64: number of rows, the numbers of the rows, and begin and length of each part map. RefHCMError for a damaged
    tar, and for one that `refhcm shard` did not make."""
    rows: list[tuple[int, ...]] = []
    maps: list[tuple[int, int]] = []
    try:
        samples = _samples(shard)
        with shard.open("rb") as file:
            for sample in samples.values():
                begin, length = sample.pop(ROWS)
                picture = sample.pop(PICTURE)
                mine = [sample[str(number)] for number in range(len(sample))]
                file.seek(begin)
                for line in file.read(length).splitlines(keepends=True):
                    number, _, row = line.partition(b"\t")
                    at = begin + len(number) + 1
                    rows.append((int(number), at, len(row.rstrip(b"\n")), *picture, len(maps), len(mine)))
                    begin += len(line)
                maps += mine
    except (tarfile.TarError, OSError) as error:
        raise RefHCMError(f"{shard} is no tar file, or a damaged one ({error}): get a whole copy of it.") from error
    except (KeyError, ValueError) as error:
        raise RefHCMError(f"{shard} holds something else than samples of refhcm shard ({error}).") from error
    return np.concatenate([[len(rows)], np.array(rows, np.int64).ravel(), np.array(maps, np.int64).ravel()])


def _samples(shard: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Key of each sample -> its members (rows, picture, numbers of part maps) -> first byte and length."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    with shard.open("rb") as file:
        file.seek(max(0, shard.stat().st_size - 2 * tarfile.BLOCKSIZE))
        if file.read().strip(b"\0"):  # every whole tar ends in two empty blocks
            raise tarfile.ReadError("it is cut off")
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            found = _MEMBER.fullmatch(member.name)
            if not found or not member.isreg():
                raise ValueError(member.name)
            key, number, ending = found.groups()
            name = ROWS if ending == ROWS else PICTURE if number is None else str(int(number))
            samples.setdefault(key, {})[name] = member.offset_data, member.size
    return samples
