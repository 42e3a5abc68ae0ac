"""Words by person, from whatever file people keep them in: expressions and captions for sets that have none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import RefHCMError
from ..fields import read_numbers
from ..json_file import read_json
from ..person_file import BY_REGION
from ..rows import guess_kind, open_rows
from ..text import CAPTION_SEPARATOR, clean_caption
from .skip import Skip
from .tables import MAX_LINE_BYTES, Aliases, Line, check_names, named, read_table

_COLUMNS: Aliases = {
    "id": ("anno_id", "person", "person_id", "key"),
    "text": ("texts", "words", "expression", "expressions", "sentence", "sentences", "caption", "captions"),
}
_PUBLISHED = {"rpar": "text", "rhrc": "captions"}
"""Kind of a published file about CIHP's people -> the column of its words."""


def read_words(path: Path, published: str = "text") -> dict[str, list[str]]:
    """Words by id, in the order of the file, from

        {"0000006_0": ["a man in a red shirt"], ...}         a JSON object, or one such object per line
        {"id": "0000006_0", "text": "a man in a red shirt"}  JSON lines or a list of them; `captions` and others too
        id,text                                              CSV or TSV with these columns
        0000006_0  a man in a red shirt  4,5,15,28  ...      a published TSV of the kind that has the column `published`

    An id may come again; its words are collected. Words that say nothing, as a list of numbers in brackets alone does
    (machine-made captions hold such), are left out. RefHCMError names the line that says something else.
    """
    found: dict[str, list[str]] = {}
    for where, name, words in _entries(path, published):
        listed = words if isinstance(words, list) else [words]
        texts = [entry for entry in listed if isinstance(entry, str)]
        if len(texts) < len(listed):
            raise RefHCMError(f"{path}, {where}: the words of {name} are missing or no text.")
        found.setdefault(name, []).extend(text for text in texts if clean_caption(text))
    return found


def read_captions(path: Path) -> dict[str, list[str]]:
    """As `read_words`; captions may also be joined, as they are in dataset files."""
    return {
        name: [part.strip() for text in texts for part in text.split(CAPTION_SEPARATOR) if clean_caption(part)]
        for name, texts in read_words(path, "captions").items()
    }


def _entries(path: Path, published: str) -> Iterator[tuple[str, str, Any]]:
    """Where, whose, and what is said, for each entry of a file of words."""
    ending = path.suffix.lower()
    if ending == ".tsv" and path.is_file() and not _has_names(path):
        yield from _published_words(path, published)
        return
    if ending == ".json" and _first_character(path) == "{":
        lines: Iterator[Line] = iter([Line("the object", read_json(path, dict))])
    else:
        lines = read_table(path, _COLUMNS)
    for line in lines:
        if line.error:
            raise RefHCMError(f"{path}, {line.where}: {line.error}.")
        try:
            fields, _ = named(line.cells, _COLUMNS)
        except Skip as error:
            raise RefHCMError(f"{path}, {line.where}: {error}.") from error
        if "id" in fields:
            yield line.where, str(fields["id"]), fields.get("text")
        elif "text" in fields:
            raise RefHCMError(f"{path}, {line.where}: it has words but no id.")
        else:
            yield from ((line.where, name, words) for name, words in line.cells.items())


def _has_names(path: Path) -> bool:
    """Whether the first line of a TSV names columns, of words at least."""
    with path.open("rb") as file:
        first = file.readline(MAX_LINE_BYTES).decode("utf-8-sig", "replace")
    return "text" in named(dict.fromkeys(first.rstrip("\r\n").split("\t")), _COLUMNS)[0]


def _published_words(path: Path, wanted: str) -> Iterator[tuple[str, str, str]]:
    """The entries of a published file; RefHCMError for one of the other kind, and for any other without names."""
    try:
        kind = guess_kind(path)
    except RefHCMError:
        kind = ""
    if kind not in _PUBLISHED:
        check_names([], path, _COLUMNS)
    if _PUBLISHED[kind] != wanted:
        raise RefHCMError(f"{path} is a published file of the kind {kind}: it holds {_PUBLISHED[kind]}, not {wanted}.")
    rows = open_rows(path, kind)
    for row in range(len(rows)):
        fields = rows.head(row, ["id", wanted, "box"])
        try:
            read_numbers(fields["box"], "the box", (4,))  # a table of somebody's own may have as many columns
        except RefHCMError as error:
            raise rows.bad(row, str(error)) from error
        if fields[wanted] != BY_REGION:
            yield f"line {rows.line(row)}", fields["id"], fields[wanted]


def _first_character(path: Path) -> str:
    """The first character of a JSON file that is no space: it tells an object from a list."""
    with path.open("rb") as file:
        return file.read(4096).decode("utf-8-sig", "replace").lstrip()[:1]
