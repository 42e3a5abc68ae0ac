"""The columns of dataset files, and what the fields of one row say about its picture's people."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import RefHCMError
from .annotation import Annotation, Box, Question
from .fields import load_part_map, read_box, read_codes, read_keypoints, read_numbers, read_points
from .masks import decode_mask, mask_area
from .person_file import BETWEEN_PEOPLE, BY_REGION, COLUMNS, EVERYBODY, OF_EACH, POINTS
from .row_file import RowFile
from .shards import ShardFiles, is_shards
from .text import scoring_captions, training_captions
from .transforms import Pair
from .tsv import TsvFile

OWN = "person"
"""The kind of our own files (`person_file`): fields may be empty, and words may mean any number of people."""
LAYOUTS: dict[str, dict[str, int]] = {
    "rec": {"id": 0, "image_id": 1, "text": 2, "box": 3, "image": 4},
    "rkpt": {"id": 0, "image_id": 1, "text": 2, "box": 3, "keypoints": 4, "image": 5},
    "rpar": {"id": 0, "text": 1, "box": 2, "codes": 3, "parts": 4, "image": 5},
    "rhrc": {"id": 0, "captions": 1, "box": 2, "image": 3},
    OWN: {name: column for column, name in enumerate(COLUMNS)},
}
WITH_POINTS = {**LAYOUTS[OWN], POINTS: len(COLUMNS)}
"""Our own files that ask by points or scribbles."""
"""Name of a field -> column (from 0) in the files published with RefHCM, and (`person`) in our own files, where one row
knows everything about a person, so that one file serves every task."""

_EARLIER_COLUMNS = 9
"""How many our own files had before they knew masks and areas."""


@dataclass(frozen=True)
class Reading:
    """What is read of a row beyond the text of its fields."""

    own: bool
    """Whether the row is of our own layout."""
    find: Callable[[str], Path | bytes]
    """Gives the file of a part map that a row names, or its bytes."""
    parts: bool = False
    masks: bool = False
    scoring: bool = False
    """Captions as the published evaluation prepares them."""


def read_pair(fields: Mapping[str, str], size: tuple[int, int], reading: Reading) -> Pair:
    """The question and the answer of a row about a picture of `size` (width, height); ValueError for what is wrong."""
    people = _people(fields, size, reading)
    text = fields.get("text")
    everybody, by_box = reading.own and text == EVERYBODY, text is None or text == BY_REGION
    if by_box and len(people) != 1:
        raise RefHCMError(f"a question without words needs exactly one person, not {len(people)}.")
    if reading.own and not by_box and not text:
        raise RefHCMError("the text is empty.")
    points = read_points(fields[POINTS], size) if fields.get(POINTS) else ()
    if points and not by_box:
        raise RefHCMError("a question by points has no words, and is not about everybody.")
    region: Box | None = None
    if len(people) == 1 and (by_box or reading.own) and not points and not everybody:
        region = people[0].box
    question = Question(size, None if by_box or everybody else text, region, points, everybody)
    split = scoring_captions if reading.scoring else training_captions
    captions = split(fields["captions"]) if _says(fields, "captions", reading) else ()
    codes = read_codes(fields["codes"]) if fields.get("codes") else None
    if codes is not None and (len(people) != 1 or everybody):
        raise RefHCMError(f"part codes are those of one person, not of {'everybody' if everybody else len(people)}.")
    if len(people) == 1 and not everybody:
        box, keypoints, parts, mask, area = (
            getattr(people[0], name) for name in ("box", "keypoints", "parts", "mask", "area")
        )
        return question, Annotation(size, box, keypoints, codes, parts, captions, mask, area)
    return question, Annotation(size, captions=captions, people=tuple(people))


def _says(fields: Mapping[str, str], name: str, reading: Reading) -> bool:
    """Whether a field is to be read: published files fill all of theirs, ours leave empty what is not known."""
    return name in fields and not (reading.own and not fields[name])


def _people(fields: Mapping[str, str], size: tuple[int, int], reading: Reading) -> list[Annotation]:
    boxes = _split(fields["box"], reading) if _says(fields, "box", reading) else []
    entries = {name: _entries(fields, name, len(boxes), reading) for name in OF_EACH}
    people = []
    for number, value in enumerate(boxes):
        said = {name: values[number] for name, values in entries.items() if values}
        people.append(_person(value, said, size, reading))
    return people


def _entries(fields: Mapping[str, str], name: str, count: int, reading: Reading) -> list[str]:
    if not _says(fields, name, reading):
        return []
    entries = _split(fields[name], reading)
    if len(entries) != count:
        raise RefHCMError(f"{name} has {len(entries)} entries for {count} boxes.")
    return entries


def _split(value: str, reading: Reading) -> list[str]:
    return value.split(BETWEEN_PEOPLE) if reading.own else [value]


def _person(box: str, said: Mapping[str, str], size: tuple[int, int], reading: Reading) -> Annotation:
    def known(name: str) -> bool:
        return name in said and bool(said[name] or not reading.own)

    place = read_box(box, size)
    keypoints = read_keypoints(said["keypoints"]) if known("keypoints") else None
    parts = load_part_map(reading.find(said["parts"]), size, place) if reading.parts and known("parts") else None
    mask = decode_mask(said["mask"], size) if reading.masks and known("mask") else None
    area: float | None = None
    if known("area"):
        area = float(read_numbers(said["area"], "the area", (1,))[0])
        if area <= 0:
            raise RefHCMError(f"the area {said['area']} is not above 0.")
    elif known("mask"):
        area = float(mask_area(said["mask"], size)) or None
    return Annotation(size, place, keypoints, parts=parts, mask=mask, area=area)


def open_rows(path: str | Path, kind: str | None = None, columns: Mapping[str, int] | None = None) -> RowFile:
    """The rows of a TSV file, or of tar shards (see `shards`), of a `kind` (None: guessed) or with other `columns`.

    Rows of a kind have exactly its columns, those of our own kind as many as the first row, with points or without.

    RefHCMError where there is no such file, or its first row has the columns of no kind.
    """
    if columns is None and kind is None:
        kind = guess_kind(path)
    if columns is None and kind not in LAYOUTS:
        raise RefHCMError(f"Unknown kind of dataset {kind!r}: it is one of {', '.join(LAYOUTS)}, or give columns.")
    if columns is not None:
        return _opened(path, columns)
    layout = LAYOUTS[str(kind)]
    file = _opened(path, layout, [len(layout), len(WITH_POINTS)] if kind == OWN else [len(layout)])
    if kind == OWN and len(file):
        count = file.count(0)
        if count == _EARLIER_COLUMNS:
            raise RefHCMError(
                f"{path} has the {_EARLIER_COLUMNS} columns of an earlier layout where {len(COLUMNS)} are expected: "
                "make it again, or name its columns, with the picture in column 8 (from 0)."
            )
        if count == len(WITH_POINTS):
            file.columns = dict(WITH_POINTS)
        file.counts = frozenset([file.width])  # all rows of a file are alike
    return file


def _opened(path: str | Path, columns: Mapping[str, int], counts: Collection[int] = ()) -> RowFile:
    return (ShardFiles if is_shards(path) else TsvFile)(path, columns, counts)


def guess_kind(path: str | Path) -> str:
    """The kind of a file, by the number of its columns and, where two kinds have as many, by what stands in them.

    RefHCMError where no kind fits, or the file is empty.
    """
    layouts = [*LAYOUTS.items(), (OWN, WITH_POINTS)]
    file = _opened(path, {"only": 0}, [len(layout) for _, layout in layouts])
    if not len(file):
        raise RefHCMError(f"{path} has no rows.")
    columns = file.count(0)
    fitting = [kind for kind, layout in layouts if len(layout) == columns]
    if len(fitting) > 1:  # keypoints stand where rpar has the path of a part map
        names = {"value": LAYOUTS["rkpt"]["keypoints"]}
        value = _opened(path, names).head(0, names)["value"]
        numbers = value.replace(",", "").replace(".", "").replace("-", "").isdigit()
        fitting = ["rkpt" if numbers else "rpar"]
    if not fitting:
        expected = ", ".join(f"{kind} {len(layout)}" for kind, layout in layouts)
        raise RefHCMError(f"{path} has {columns} columns in its first line, as no kind of dataset has ({expected}).")
    return fitting[0]
