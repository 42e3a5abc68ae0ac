"""Makes tar shards of a TSV file (see `shards` for what they hold), through the `webdataset` library."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import MissingExtraError, RefHCMError
from .commands import writable_folder
from .fields import is_path
from .images import picture_format
from .person_file import BETWEEN_PEOPLE
from .referring import ReferringDataset
from .row_file import BadRow
from .rows import guess_kind
from .shards import ROWS, ShardFiles, is_shards

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SMALLEST = 10**4
"""Bytes of a shard, below which a size is a slip of the pen."""


@dataclass
class Shards:
    """What `write_shards` made."""

    name: str
    """By which training and evaluation find them: `train-000000.tar`, or a range of such names in braces."""
    files: list[Path]
    rows: int = 0
    pictures: int = 0
    left_out: list[BadRow] = field(default_factory=list)
    """Rows that cannot be used, which are in no shard."""


def read_size(text: str) -> int:
    """Bytes of a size as people write it: `1GB`, `500 MB`, `2000000`; RefHCMError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", text.strip().lower(), re.ASCII)
    size = float(found[1]) * _UNITS[found[2]] if found else 0
    if not found or size < _SMALLEST:
        raise RefHCMError(f"The size of a shard is a number of bytes like 1GB or 500MB, not {text!r}.")
    return int(size)


def write_shards(
    source: str | Path, out: str | Path, size: int, kind: str | None = None, root: str | Path | None = None,
    progress: bool = False,
) -> Shards:  # fmt: skip
    """Copy a file's rows, pictures and part maps into tars of about `size` bytes below `out`.

    Files are copied byte for byte, a picture once for all of its rows. `kind` and `root`: see `ReferringDataset`. Rows
    that cannot be used are named in the result. RefHCMError where none can, or shards of that name are there already.
    """
    source, out = Path(source), writable_folder(out)
    if is_shards(source):
        raise RefHCMError(f"{source} is a shard already.")
    stem, like = source.stem, re.compile(rf"{re.escape(source.stem)}-\d+\.tar")
    if there := sorted(path.name for path in out.glob("*.tar") if like.fullmatch(path.name)):
        raise RefHCMError(f"{out} holds shards of that name already ({there[0]}): remove them, or name another --out.")
    data = ReferringDataset(source, kind or guess_kind(source), root=root)
    made = Shards("", [])
    with _Writer(out, stem, size) as writer:
        for sample in _samples(data, made.left_out, progress):
            writer.add(sample)
            made.rows += sample[ROWS].count(b"\n")
            made.pictures += 1
        if not made.rows:
            raise RefHCMError(f"No row of {source} can be used: {made.left_out[0] if made.left_out else 'it is empty'}")
        made.files = writer.complete()
    last = len(made.files) - 1
    made.name = str(out / (f"{stem}-{{000000..{last:06d}}}.tar" if last else f"{stem}-000000.tar"))
    if len(ShardFiles(made.name, data.file.columns)) != made.rows:  # makes the indices as well
        raise RefHCMError(f"{made.name} cannot be read back whole: check the disk.")
    return made


# -- samples -------------------------------------------------------------------------------------------------
def _samples(data: ReferringDataset, left_out: list[BadRow], progress: bool) -> Iterator[dict[str, Any]]:
    """One sample per picture, in the order in which pictures first appear; adds rows that cannot be used to
    `left_out`."""
    from tqdm import tqdm

    for rows in tqdm(_by_picture(data, left_out).values(), desc="pictures", disable=None if progress else True):
        sample = _Sample(data, rows)
        left_out += sample.bad
        if ROWS in sample.members:
            yield sample.members
    left_out.sort(key=lambda fault: fault.line)


def _by_picture(data: ReferringDataset, left_out: list[BadRow]) -> dict[str, list[int]]:
    """What tells a picture (its path, or a checksum of all its base64) -> its rows."""
    found: dict[str, list[int]] = {}
    for row in range(len(data)):
        try:
            value = data.file[row]["image"]
        except BadRow as error:
            left_out.append(error)
            continue
        key = value if len(value) < 4096 else hashlib.blake2b(value.encode(), digest_size=16).hexdigest()
        found.setdefault(key, []).append(row)
    return found


class _Sample:
    """The rows of one picture as the members of a tar; `bad` are those that cannot be used."""

    def __init__(self, data: ReferringDataset, rows: list[int]) -> None:
        self.data, self.file = data, data.file
        self.members: dict[str, Any] = {}
        self.bad: list[BadRow] = []
        self._maps: dict[str, str] = {}
        try:
            picture = _content(data.picture_source(rows[0], self.file[rows[0]]["image"]))
            ending = picture_format(picture).lower()
        except (RefHCMError, OSError) as error:
            self.bad = [self.file.bad(row, str(error)) for row in rows]
            return
        kept = [row for row in rows if self._take_maps(row)]
        if kept:
            key = f"{self.file.line(kept[0]):09d}"
            lines = "".join(f"{self.file.line(row)}\t{self._row(row, key)}\n" for row in kept)
            self.members |= {"__key__": key, ending: picture, ROWS: lines.encode("utf-8")}

    def _take_maps(self, row: int) -> bool:
        """Put the part maps of a row among the members, each once; False where one of them is missing."""
        for path in filter(None, self._parts(row)):
            if path in self._maps:
                continue
            try:
                content = _content(self.data.parts_source(path))
            except (RefHCMError, OSError) as error:
                self.bad.append(self.file.bad(row, str(error)))
                return False
            self._maps[path] = f"{len(self._maps)}.{'npy' if path.endswith('.npy') else 'png'}"
            self.members[self._maps[path]] = content
        return True

    def _parts(self, row: int) -> list[str]:
        if "parts" not in self.file.columns:
            return []
        return self.file.read(row, ["parts"])["parts"].split(BETWEEN_PEOPLE)

    def _row(self, row: int, key: str) -> str:
        """A row with the names of the sample's members in place of what they hold."""
        cells = self.file.raw(row).decode("utf-8").split("\t")
        columns = self.file.columns
        if not is_path(cells[columns["image"]]):
            cells[columns["image"]] = key
        if "parts" in columns:
            names = (path and f"{key}.{self._maps[path]}" for path in self._parts(row))
            cells[columns["parts"]] = BETWEEN_PEOPLE.join(names)
        return "\t".join(cells)


def _content(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


# -- tars ----------------------------------------------------------------------------------------------------
class _Writer:
    """Tars under preliminary names, which get theirs in `complete`, or are removed."""

    def __init__(self, out: Path, stem: str, size: int) -> None:
        try:
            from webdataset import ShardWriter
        except ImportError as error:
            raise MissingExtraError("webdataset", "shards") from error
        self.out, self.stem = out, stem
        self._parts: list[Path] = []
        self._open: IO[bytes] | None = None
        # Times and owners are left empty, so that the same rows make the same tars.
        self._shards = ShardWriter(
            "%d", maxcount=10**9, maxsize=size, opener=self._next, post=self._close, verbose=0, encoder=False, mtime=0,
            user="", group="",
        )  # fmt: skip

    def add(self, sample: dict[str, Any]) -> None:
        """Append a sample."""
        self._shards.write(sample)

    def complete(self) -> list[Path]:
        """Give the tars their names."""
        self._shards.finish()
        names = [self.out / f"{self.stem}-{number:06d}.tar" for number in range(len(self._parts))]
        for part, name in zip(self._parts, names, strict=True):
            part.replace(name)
        return names

    def _next(self, number: str) -> IO[bytes]:
        self._parts.append(self.out / f"{self.stem}-{int(number):06d}.tar.part")
        self._open = self._parts[-1].open("wb")
        return self._open

    def _close(self, number: str) -> None:
        if self._open is not None:
            self._open.close()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._close("")
        for part in self._parts:
            part.unlink(missing_ok=True)
