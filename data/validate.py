"""Goes through a dataset file row by row and says what is wrong where: what training and evaluation would stumble over.

A fault is what makes a row unusable or certainly wrong. A remark is what published files are known to have, such as a
box that reaches over the edge of its picture; in our own files, which are written clean, that is a fault as well.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RefHCMError
from .annotation import Annotation, Question
from .fields import is_path, part_map_size
from .images import open_sized
from .known import OTHERS
from .masks import apart, extent
from .person_file import BETWEEN_PEOPLE, EDGE
from .referring import ReferringDataset
from .row_file import BadRow
from .rows import OWN, Reading, guess_kind, read_pair

_KEPT = 1000
"""Faults that are remembered one by one."""


@dataclass
class Validation:
    """What was found in a file."""

    path: Path
    kind: str
    rows: int = 0
    faults: int = 0
    """Rows with a fault."""
    first: list[BadRow] = field(default_factory=list)
    """What is wrong with the first of them."""
    known: Counter[str] = field(default_factory=Counter)
    """Field (or what a row is about) -> number of rows that know it."""
    remarks: Counter[str] = field(default_factory=Counter)
    pictures: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "file": str(self.path),
            "kind": self.kind,
            "rows": self.rows,
            "pictures": self.pictures,
            "faults": self.faults,
            "first": [{"line": fault.line, "what": fault.why} for fault in self.first],
            "known": dict(self.known),
            "remarks": dict(self.remarks),
        }

    def summary(self) -> str:
        """The counts for a reader, in a few lines."""
        lines = [f"{self.path}: {self.rows:,} rows of the kind {self.kind}, {self.pictures:,} pictures"]
        lines += [f"  {count:>9,}  rows {what}" for what, count in self.known.items()]
        lines += [f"  {count:>9,}  remarks: {what}" for what, count in self.remarks.items()]
        wrong = f"{self.faults:,} rows are wrong" if self.faults else "nothing is wrong"
        return "\n".join([*lines, wrong])


def validate(
    path: str | Path, kind: str | None = None, root: str | Path | None = None, progress: bool = False
) -> Validation:
    """Look at every row of a file of a `kind` (one of `LAYOUTS`; None: guessed), its picture and part map included.

    Paths in rows count from `root` (None: the file's folder). RefHCMError where the file cannot be read at all.
    """
    return _Validator(Path(path), kind or guess_kind(path), root).run(progress)


class _Validator:
    """The state of one passage through a file."""

    def __init__(self, path: Path, kind: str, root: str | Path | None) -> None:
        self.data = ReferringDataset(path, kind, root=root)
        self.result = Validation(path, kind, len(self.data))
        self.own = kind == OWN
        self._ids: dict[str, int] = {}
        self._everybody: dict[str, int] = {}
        self._sizes: dict[str, tuple[int, int] | str] = {}
        self._reading = Reading(self.own, self.data.parts_source, parts=True, masks=True)

    def run(self, progress: bool) -> Validation:
        from tqdm import tqdm

        for row in tqdm(range(len(self.data)), desc="rows", disable=None if progress else True):
            try:
                why = "; ".join(self._row(row))
            except BadRow as error:
                why = error.why
            except ValueError as error:
                why = str(error)
            if why:
                self.result.faults += 1
                if len(self.result.first) < _KEPT:
                    self.result.first.append(self.data.file.bad(row, why))
        self.result.pictures = len(self._sizes)
        return self.result

    def _row(self, row: int) -> Iterator[str]:
        """What is wrong with a row, one sentence each; ValueError where the rest cannot be looked at."""
        file = self.data.file
        fields = file[row]
        yield from self._id(fields["id"], file.line(row))
        if "text" in fields and not fields["text"].strip():
            yield from self._minor("the text is empty.")
        size = self._size(row, fields["image"])
        question, answer = read_pair(fields, size, self._reading)
        self._count(row, fields, question, answer)
        if question.everybody:
            yield from self._all(fields, file.line(row))
        people = (answer,) if answer.people is None else answer.people
        for person in people:
            yield from self._person(person)
        if any(self._other_size(path, size) for path in fields.get("parts", "").split(BETWEEN_PEOPLE) if path):
            yield from self._minor("the part map has another size than its picture.")
        if "captions" in fields and (fields["captions"] or not self.own) and not all(map(str.strip, answer.captions)):
            yield "a caption is empty."

    def _id(self, name: str, line: int) -> Iterator[str]:
        if not name:
            yield "the id is empty."
        elif name in self._ids and self.own:
            yield f"the id {name} stands in line {self._ids[name]} already."
        elif name in self._ids:
            yield from self._minor("the id stands in another row already.")
        else:
            self._ids[name] = line

    def _all(self, fields: dict[str, str], line: int) -> Iterator[str]:
        """What is wrong with a row about everybody beside its people."""
        picture = fields["image_id"]
        if self._everybody.setdefault(picture, line) != line:
            yield f"everybody in picture {picture} is listed in line {self._everybody[picture]} already."
        left = [float(box.split(",")[0]) for box in fields["box"].split(BETWEEN_PEOPLE) if box]
        if left != sorted(left):
            yield "everybody is not listed from left to right, by the left edge of the box."

    def _size(self, row: int, value: str) -> tuple[int, int]:
        """(width, height) of a picture, which is decoded once; RefHCMError where it cannot be."""
        key = value if is_path(value) else f"{len(value)}-{zlib.crc32(value.encode())}"
        if key not in self._sizes:
            try:
                self._sizes[key] = open_sized(self.data.picture_source(row, value), orient=False)[1]
            except RefHCMError as error:
                self._sizes[key] = str(error)
        known = self._sizes[key]
        if isinstance(known, str):
            raise RefHCMError(known)
        return known

    def _other_size(self, path: str, size: tuple[int, int]) -> bool:
        """Whether a part map is not of the picture's (width, height), so that it is resampled when it is read."""
        return part_map_size(self.data.parts_source(path)) != size

    def _count(self, row: int, fields: dict[str, str], question: Question, answer: Annotation) -> None:
        known = self.result.known
        alone = "ask by points" if question.points else "ask by the region alone"
        alone = "list everybody" if question.everybody else alone
        known[alone if question.text is None else "ask with words"] += 1
        if answer.people is not None and not question.everybody:
            known["mean several people" if answer.people else "mean nobody"] += 1
        for name in ("box", "keypoints", "codes", "parts", "captions", "mask"):
            known[f"know {name}"] += bool(fields.get(name))
        if self.own:
            known["know who else is there"] += bool(self.data.known.fields[OTHERS][row])

    def _person(self, person: Annotation) -> Iterator[str]:
        width, height = person.size
        assert person.box is not None
        x1, y1, x2, y2 = person.box
        if x2 <= x1 or y2 <= y1:
            yield f"the box {person.box} has no width or height."
        if min(x1, y1, width - x2, height - y2) < -EDGE:
            yield from self._minor("the box reaches over the edge of its picture.")
        if person.keypoints is not None:
            yield from self._keypoints(person)
        if person.parts is not None and not person.parts.any():
            yield "the part map is empty."
        if person.mask is not None:
            found = extent(person.mask)
            if found is None:
                yield "the mask is empty."
            elif apart(person.box, found):
                yield "the mask lies outside the box."

    def _keypoints(self, person: Annotation) -> Iterator[str]:
        assert person.keypoints is not None
        places, seen = person.keypoints[:, :2], person.keypoints[:, 2]
        if not np.isin(seen, (0, 1, 2)).all():
            yield "a keypoint's visibility is not 0, 1 or 2."
        labelled = places[seen > 0]
        if (labelled < -EDGE).any() or (labelled > np.array(person.size) + EDGE).any():
            yield from self._minor("a labelled keypoint lies outside the picture.")

    def _minor(self, what: str) -> Iterator[str]:
        if self.own:
            yield what
        else:
            self.result.remarks[what] += 1
