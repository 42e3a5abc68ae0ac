"""Tables that people write by hand or by script: JSON lines, a JSON list, or CSV / TSV with a line of column names.

A line that cannot be read says so (`Line.error`) and the others go on; RefHCMError where nothing of the file can be
read. Names of columns may be written in capitals, with spaces or hyphens, and some have other names (`Aliases`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import RefHCMError
from ..json_file import MAX_JSON_BYTES, loads, read_bytes, read_json
from .skip import Skip

Aliases = Mapping[str, tuple[str, ...]]
"""Name of a field -> further names of its column, in small letters with underscores."""

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
"""What `read_table` reads."""
MAX_LINE_BYTES = 16 << 20
"""Of JSON lines."""
_SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True)
class Line:
    """One line of a table: cells by column name as it is written in the file, or why it cannot be read."""

    where: str
    """`line 7`, or `entry 7` of a JSON list; counted from 1, as an editor shows it."""
    cells: dict[str, Any] = field(default_factory=dict)
    """Empty cells are left out. A CSV cell that is a JSON list or object comes as such, any other as text."""
    error: str = ""


def read_table(path: Path, needed: Aliases | None = None) -> Iterator[Line]:
    """The lines of a table, its kind told by the ending of its name. RefHCMError for a file that is none, and for CSV
    and TSV without one of the columns `needed`."""
    ending = path.suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        return _json_lines(path)
    if ending == ".json":
        return _json_list(path)
    if ending in (".csv", ".tsv"):
        return _csv(path, ending, needed or {})
    raise RefHCMError(f"{path} is no table: its name ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")


def named(cells: Mapping[str, Any], aliases: Aliases) -> tuple[dict[str, Any], list[str]]:
    """Cells by field, and the columns that are no field. Skip when two columns say the same field."""
    fields: dict[str, Any] = {}
    by: dict[str, str] = {}
    unknown = []
    lookup = {alias: name for name, others in aliases.items() for alias in (name, *others)}
    for column, value in cells.items():
        name = lookup.get(re.sub(r"[\s-]+", "_", column.strip().lower()))
        if name is None:
            unknown.append(column)
        elif name in fields:
            raise Skip(f"{by[name]} and {column} both give the {name}: leave one of them out")
        else:
            fields[name], by[name] = value, column
    return fields, unknown


def check_names(names: list[str], path: Path, needed: Aliases) -> None:
    """RefHCMError where the first line of a table does not name each of the columns `needed`, once."""
    try:
        found, _ = named(dict.fromkeys(names), needed)
    except Skip as error:
        raise RefHCMError(f"{path}: {error}.") from error
    if set(found) != set(needed):
        told = f" (it names {', '.join(names)[:80]})" if names else ""
        raise RefHCMError(f"{path} needs the columns {' and '.join(needed)}, named in its first line{told}.")


# -- kinds of tables -----------------------------------------------------------------------------------------
def _json_lines(path: Path) -> Iterator[Line]:
    if not path.is_file():
        raise RefHCMError(f"There is no file at {path}: check the path.")
    with path.open("rb") as file:
        number = 0
        while content := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            where = f"line {number}"
            if len(content) > MAX_LINE_BYTES:
                yield Line(where, error=f"it has more than {MAX_LINE_BYTES:,} bytes, and what follows is not read")
                return
            if content.strip():
                yield _json_line(content, where)


def _json_line(content: bytes, where: str) -> Line:
    try:
        value = loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Line(where, error="it is not UTF-8 text")
    except (ValueError, RecursionError) as error:
        return Line(where, error=f"it is not JSON ({error})")
    return _object(value, where)


def _json_list(path: Path) -> Iterator[Line]:
    for number, value in enumerate(read_json(path, list), 1):
        yield _object(value, f"entry {number}")


def _object(value: Any, where: str) -> Line:
    if not isinstance(value, dict):
        return Line(where, error='it is not a JSON object like {"image": "a.jpg", ...}')
    return Line(where, {name: cell for name, cell in value.items() if cell is not None and cell != ""})


def _csv(path: Path, ending: str, needed: Aliases) -> Iterator[Line]:
    try:
        content = read_bytes(path, MAX_JSON_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefHCMError(
            f"{path} is not UTF-8 text: save it again as UTF-8 (spreadsheets call it CSV UTF-8)."
        ) from error
    first = content.partition("\n")[0]
    separator = "\t" if ending == ".tsv" else max(_SEPARATORS, key=first.count)
    rows = csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True)
    names: list[str] | None = None
    begin = 1
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            if names is None:
                told = f"The column names of {path} cannot be read ({error}): check its first line."
                raise RefHCMError(told) from error
            yield Line(f"line {begin}", error=f"its quotation marks or its length cannot be read ({error})")
            row = []
        if row is None:
            return
        where, begin = f"line {begin}", rows.line_num + 1
        if names is None:
            names = _header(row, path)
            check_names(names, path, needed)
        elif any(cell.strip() for cell in row):
            yield _csv_line(row, names, where)


def _header(row: list[str], path: Path) -> list[str]:
    names = [name.strip() for name in row]
    if not any(names):
        raise RefHCMError(f"The first line of {path} is empty: it must hold the names of the columns.")
    twice = next((name for at, name in enumerate(names) if name and name in names[:at]), None)
    if twice is not None:
        raise RefHCMError(f"{path} has two columns called {twice!r}: rename one of them.")
    return names


def _csv_line(row: list[str], names: list[str], where: str) -> Line:
    if len(row) > len(names):
        return Line(
            where,
            error=f"it has {len(row)} cells where the first line names {len(names)} columns: put cells that hold "
            "commas between quotation marks",
        )
    cells = {name: _cell(value.strip()) for name, value in zip(names, row, strict=False) if name and value.strip()}
    return Line(where, cells)


def _cell(value: str) -> Any:
    """Lists and objects are written as JSON; words that only begin so stay words."""
    if value[0] not in "[{":
        return value
    try:
        return loads(value)
    except (ValueError, RecursionError):
        return value
