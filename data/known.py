"""What the rows of a file know, and whom they are about, found in one passage without a look at pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from .person_file import BETWEEN_PEOPLE, BY_REGION, EVERYBODY, OF_EACH, POINTS
from .row_file import BadRow, RowFile
from .rows import OWN

About = Literal["one", "one or nobody", "people", "everybody"]
"""Whom a row may be about to serve a question: exactly one person; one or nobody; any number of particular people; or
everybody of its picture, which none of the others takes in."""
OTHERS = "others"
"""Known of a row where its picture has a row about everybody, with all of their masks, and the people that the row
itself means are among them (with the same boxes)."""

class Known:
    """Which fields the rows of a file know, and whom each is about.

    `people` is int8 (rows), how many a row means, at most 127; `everybody` and `readable` are bool (rows); `fields`
    maps a name, of a column or `OTHERS`, to bool (rows): whether a row knows it of each of its people. `places` maps
    the id of a picture to its row about everybody, the first where there are several. Rows that cannot be read count as
    knowing everything about one person, so that whoever uses them meets, and counts, what is wrong.
    """

    def __init__(self, file: RowFile, kind: str) -> None:
        names = [name for name in file.columns if name != "image"]
        self.people = np.ones(len(file), np.int8)
        self.everybody = np.zeros(len(file), bool)
        self.readable = np.ones(len(file), bool)
        self.fields = {name: np.ones(len(file), bool) for name in names}
        self.places: dict[str, int] = {}
        if kind in ("rec", "rkpt", "rhrc"):  # every field of these is filled, and their rows are long to go through
            return
        boxes = _Boxes(len(file))
        for row in range(len(file)):
            try:
                fields = file.head(row, names)
            except BadRow:
                self.readable[row] = False
                continue
            if kind == OWN:
                self._own(row, fields, boxes)
            elif "text" in fields:
                self.fields["text"][row] = fields["text"] != BY_REGION
        if kind == OWN:
            self.fields[OTHERS] = boxes.listed() | ~self.readable

    def _own(self, row: int, fields: Mapping[str, str], boxes: _Boxes) -> None:
        """Take in a row of our own kind."""
        for name, value in fields.items():
            if name == "text":
                self.fields[name][row] = value not in (BY_REGION, EVERYBODY)
            else:
                self.fields[name][row] = all(value.split(BETWEEN_PEOPLE)) if name in OF_EACH else bool(value)
        picture, box = fields.get("image_id", ""), fields.get("box", "")
        listed = box.split(BETWEEN_PEOPLE) if box else []
        self.people[row] = min(len(listed), 127)
        boxes.add(row, picture, listed)
        self.everybody[row] = fields.get("text") == EVERYBODY
        first = bool(self.everybody[row]) and self.places.setdefault(picture, row) == row
        if first and fields.get("mask") and self.fields["mask"][row]:
            boxes.list_all(row)

    def lacking(self, needs: tuple[str, ...], about: About = "one", points: bool = False) -> dict[str, np.ndarray]:
        """Why rows cannot be used for a question `about` so many people that needs these fields of each of them: reason
        -> bool (rows), True where that is the first reason. Where nobody is meant, all that is known of them is.
        Rows that ask by points are left out, or with `points` count as rows with words where one person is meant.
        """
        left = np.ones(len(self.people), bool)
        reasons = {}
        tests = self._tests(about)
        pointed = self.fields.get(POINTS, np.zeros(len(self.people), bool)) & self.readable
        if not points or about not in ("one", "one or nobody"):
            tests["ask by points"] = ~pointed
        for name in needs:
            known = self.fields.get(name, np.zeros(len(self.people), bool))
            if name == "text":
                tests["ask without words"] = known | pointed
            else:
                tests[f"do not know {name}"] = known | (self.people == 0)
        for reason, fits in tests.items():
            reasons[reason] = left & ~fits
            left = left & fits
        return {reason: rows for reason, rows in reasons.items() if rows.any()}

    def _tests(self, about: About) -> dict[str, np.ndarray]:
        """Reason -> the rows that it does not rule out."""
        if about == "everybody":
            return {"do not list everybody": self.everybody}
        tests = {"list everybody": ~self.everybody}
        if about == "one":
            tests["are about several people or nobody"] = self.people == 1
        elif about == "one or nobody":
            tests["are about several people"] = self.people <= 1
        elif about != "people":
            raise ValueError(f"Rows are about {', '.join(get_args(About))}, not about {about!r}.")
        return tests


class _Boxes:
    """Whom rows mean, as hashes of picture and box, until it is known which pictures list everybody."""

    def __init__(self, rows: int) -> None:
        self._alone = np.zeros(rows, np.int64)
        self._several: dict[int, list[int]] = {}
        self._listed: set[int] = set()

    def add(self, row: int, picture: str, boxes: list[str]) -> None:
        """The people of a row of a picture."""
        hashes = [hash((picture, box)) for box in boxes]
        if len(hashes) == 1:
            self._alone[row] = hashes[0]
        else:
            self._several[row] = hashes

    def list_all(self, row: int) -> None:
        """The people of this row are everybody of its picture."""
        self._listed.update(self._several.get(row, [int(self._alone[row])]))

    def listed(self) -> np.ndarray:
        """bool (rows): whether all people that a row means are among everybody of its picture."""
        found = np.isin(self._alone, np.fromiter(self._listed, np.int64, len(self._listed)))
        for row, hashes in self._several.items():
            found[row] = bool(hashes) and self._listed.issuperset(hashes)
        return found
