"""Rows of a dataset file by number, wherever they lie: lines of a table (`tsv`) or in tar shards (`shards`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import RefHCMError

_DAMAGED = "there are NUL bytes in it: the file is damaged here."


class BadRow(RefHCMError):
    """A row of a dataset file that cannot be used; the message names the file and the line."""

    def __init__(self, path: str | Path, line: int, why: str) -> None:
        super().__init__(f"{path}, line {line}: {why}")
        self.path, self.line, self.why = str(path), line, why

    def __reduce__(self) -> tuple:
        """Errors cross from loader processes with the arguments they were made of."""
        return type(self), (self.path, self.line, self.why)


class RowFile(ABC):
    """Rows of fields between tabs.

    `columns` names the fields: a sequence gives the whole row in file order, a mapping gives name -> column
    index (from 0) and ignores other columns. `counts` says how many columns a row may have in all, where that is known.
    """

    def __init__(
        self, path: str | Path, columns: Sequence[str] | Mapping[str, int], counts: Collection[int] = ()
    ) -> None:
        self.path = Path(path)
        by_name = columns if isinstance(columns, Mapping) else {name: i for i, name in enumerate(columns)}
        self.columns = dict(by_name)
        self.counts = frozenset(counts if isinstance(columns, Mapping) else [len(columns)])

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def raw(self, row: int) -> bytes:
        """A row (from 0) as it stands in the file, without its line end."""

    @abstractmethod
    def line(self, row: int) -> int:
        """The line number (from 1) of a row, as an editor shows it."""

    @abstractmethod
    def picture(self, row: int, value: str) -> bytes | None:
        """The picture file of a row whose picture field is `value`, where this file holds it; None where that is a path
        to it. RefHCMError for what is neither."""

    @abstractmethod
    def picture_name(self, row: int) -> str:
        """What is equal for rows of the same picture and for no others, found without reading the picture."""

    def part_map(self, value: str) -> bytes | None:
        """The file of a part map that a row names, where this file holds it; None where the name is a path."""
        return None

    @property
    def width(self) -> int:
        """How many columns a row has at least."""
        return max(self.columns.values()) + 1

    def fits(self, count: int) -> bool:
        """Whether a row may have so many columns."""
        return count in self.counts if self.counts else count >= self.width

    def __getitem__(self, row: int) -> dict[str, str]:
        """The fields of row number `row` (from 0); BadRow for another number of columns, and for what is
        no text."""
        return self.read(row, self.columns)

    def read(self, row: int, names: Iterable[str]) -> dict[str, str]:
        """As `[row]`, but only the named fields."""
        fields = self.raw(row).split(b"\t")
        if not self.fits(len(fields)):
            raise self.short(row, len(fields))
        return self.decoded(row, {name: fields[self.columns[name]] for name in names})

    def head(self, row: int, names: Iterable[str]) -> dict[str, str]:
        """As `read`, for rows that may lack columns behind the named ones."""
        wanted = {name: self.columns[name] for name in names}
        fields = self.raw(row).split(b"\t", max(wanted.values(), default=0) + 1)
        if wanted and len(fields) <= max(wanted.values()):
            raise self.short(row, len(fields))
        return self.decoded(row, {name: fields[column] for name, column in wanted.items()})

    def count(self, row: int) -> int:
        """How many columns a row has."""
        return self.raw(row).count(b"\t") + 1

    def bad(self, row: int, why: str) -> BadRow:
        """The error that says what is wrong with a row."""
        return BadRow(self.path, self.line(row), why)

    def short(self, row: int, count: int) -> BadRow:
        """The error for a row of `count` columns."""
        if b"\0" in self.raw(row):
            return self.bad(row, _DAMAGED)
        return self.bad(row, f"{count} columns where {self.width} are expected.")

    def decoded(self, row: int, fields: Mapping[str, bytes]) -> dict[str, str]:
        """Fields as text; BadRow for bytes that are none, as a damaged disk leaves them."""
        if any(b"\0" in value for value in fields.values()):
            raise self.bad(row, _DAMAGED)
        try:
            return {name: value.decode("utf-8") for name, value in fields.items()}
        except UnicodeDecodeError as error:
            raise self.bad(row, "the text is not UTF-8.") from error
