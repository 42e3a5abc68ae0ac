"""Our own dataset files: one row per expression or region, with all that is known about the people it means.

A row has eleven fields between tabs, in the order of `COLUMNS`; what is not known is left empty:

    id         unique in the file; `{dataset}:{ref}:{sentence}` in converted sets
    image_id   by which leaks between splits are found: COCO's number, or the id in another source with its name before
               it, as `cihp:0000006`
    text       the words; `None`: the box itself is the question; `Everybody`: all people of the picture are
    box        x1,y1,x2,y2 in continuous pixels; empty: nobody is meant
    keypoints  51 numbers x,y,v in COCO order, v as in COCO (0 unlabelled, 1 hidden, 2 seen)
    codes      48 codes of the part map (see models/label_map_codes.py)
    parts      path of the part map, a grey PNG of CIHP classes
    captions   descriptions joined by &&
    mask       COCO's compressed run lengths of the person's visible pixels; the size is the picture's
    area       the person's segment area in square pixels as its source gives it (empty: the mask's), for OKS
    image      path of the picture, or the picture file in base64

A file whose people are marked by points or scribbles, as RefHuman's prompts, has a twelfth field in every row:

    points     what may be asked with, alternatives joined by `;`: x,y of one point, or of the points of a scribble one
               after the other. Evaluation asks with the first. Empty: by words or box, as above; otherwise the box is
               no part of the question, and text is None

Where words mean several people, `box`, `keypoints`, `parts`, `mask` and `area` hold one entry each, joined by `|`.
So they do in a row about `Everybody`, of which a picture has one at most, with its people from left to right; it also
tells the other rows of its picture (the same `image_id`) who else is there. Paths count from the folder of the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from ..errors import RefHCMError
from .annotation import KEYPOINT_NAMES, Box, Points
from .text import CAPTION_SEPARATOR, clean_caption

COLUMNS = ("id", "image_id", "text", "box", "keypoints", "codes", "parts", "captions", "mask", "area", "image")
POINTS = "points"
"""The twelfth column, of files that have it."""
BY_REGION = "None"
"""Stands for the words where the box itself, or points, are the question."""
EVERYBODY = "Everybody"
"""Stands for the words where all people of the picture are asked for."""
BETWEEN_POINTS = ";"
OF_EACH = ("keypoints", "parts", "mask", "area")
"""Fields beside the box with an entry for each person."""
EDGE = 1.0
"""Pixels that a label may lie outside its picture before anybody minds: published numbers are rounded."""
BETWEEN_PEOPLE = "|"
"""No field of one person can hold it: run lengths use the characters 0 to o."""


@dataclass(frozen=True)
class Person:
    """One person that a row means."""

    box: Box
    keypoints: np.ndarray | None = None
    """float (17, 3): x, y in pixels, v."""
    mask: str | None = None
    """COCO's compressed run lengths, as text."""
    parts: str | None = None
    """Path of the part map."""
    area: float | None = None
    """Of the person's visible pixels, in square pixels, where the source states it."""


@dataclass(frozen=True)
class PersonRow:
    """A row before it is written. Without people it says that nobody fits the words, or, about everybody, that nobody
    is there."""

    id: str
    image_id: str
    image: str
    people: tuple[Person, ...]
    text: str | None = None
    """None: the question is the region of the one person, or everybody."""
    captions: tuple[str, ...] = ()
    codes: tuple[int, ...] | None = None
    points: tuple[Points, ...] = ()
    """The question is any of these in place of the region; see `Question.points`."""
    everybody: bool = False
    """The people are all of the picture, and are written from left to right."""

    def line(self, points: bool = False) -> str:
        """The row as it stands in the file, with its line end; `points` gives it the twelfth column. RefHCMError for
        what a row cannot say.
        """
        self._check(points)
        people = sorted(self.people, key=lambda person: person.box) if self.everybody else self.people
        fields = {
            "id": self.id,
            "image_id": self.image_id,
            "text": EVERYBODY if self.everybody else _words(self.text),
            "box": _joined(_box(person.box, self.id) for person in people),
            "keypoints": _joined(_keypoints(person.keypoints) for person in people),
            "codes": "" if self.codes is None else ",".join(map(str, self.codes)),
            "parts": _joined(person.parts or "" for person in people),
            "captions": _captions(self.captions, self.id),
            "mask": _joined(person.mask or "" for person in people),
            "area": _joined("" if person.area is None else numbers([person.area]) for person in people),
            "image": self.image,
            POINTS: BETWEEN_POINTS.join(numbers(np.ravel(marks)) for marks in self.points),
        }
        for name, value in fields.items():
            if any(character in value for character in "\t\r\n\0"):
                raise RefHCMError(f"{self.id}: the field {name} holds a tab, a line end or a NUL.")
            if not value and name in ("id", "text", "image"):
                raise RefHCMError(f"{self.id}: the field {name} is empty.")
            if not value.isascii():
                _check_letters(value, f"{self.id}: the field {name}")
        return "\t".join(fields[name] for name in (*COLUMNS, *([POINTS] if points else []))) + "\n"

    def _check(self, points: bool) -> None:
        """RefHCMError for fields that contradict each other; `points` as in `line`."""
        if self.everybody and (self.text is not None or self.points or self.captions or self.codes is not None):
            raise RefHCMError(f"{self.id}: a row about everybody has no words, points, captions or part codes.")
        if self.points and (self.text is not None or not points):
            raise RefHCMError(f"{self.id}: a question by points has no words, and its file has a column for them.")
        if self.text is None and len(self.people) != 1 and not self.everybody:
            raise RefHCMError(f"{self.id}: a question without words needs exactly one person, not {len(self.people)}.")
        if self.codes is not None and len(self.people) != 1:
            raise RefHCMError(f"{self.id}: part codes are those of one person, not of {len(self.people)}.")


class PersonWriter:
    """Writes a file of rows that appears, under its name, only when it is complete.

        with PersonWriter(path) as out:
            out.add(row)

    After an error inside the block nothing is left behind, and an older file of that name is untouched. `points` gives
    every row the twelfth column.
    """

    def __init__(self, path: str | Path, points: bool = False) -> None:
        self.path, self.points = Path(path), points
        self.count = 0
        self._part = self.path.with_name(self.path.name + ".part")
        self._file = self._part.open("w", encoding="utf-8", newline="\n")

    def add(self, row: PersonRow) -> None:
        """Append one row."""
        self._file.write(row.line(self.points))
        self.count += 1

    def __enter__(self) -> PersonWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the file its name, or remove it after an error."""
        self._file.close()
        if kind is None:
            os.replace(self._part, self.path)
        else:
            self._part.unlink(missing_ok=True)


def numbers(values: Iterable[float]) -> str:
    """Numbers between commas, to a hundredth of a pixel, without needless zeros. RefHCMError for what is no number."""
    rounded = [round(float(value), 2) for value in values]
    if not all(map(math.isfinite, rounded)):
        raise RefHCMError(f"{rounded} are not all numbers.")
    return ",".join(f"{value:.10g}" for value in rounded)


def clean_field(text: str) -> str:
    """Words as one field can hold them: tabs, line ends and NUL become spaces, everything else stays."""
    return " ".join(text.replace("\0", " ").split())


def caption_field(caption: str) -> str:
    """One caption as the field of captions can hold it; RefHCMError where it cannot."""
    cleaned = clean_field(caption).strip("& ")  # what joins captions must not grow into them
    if not clean_caption(cleaned) or CAPTION_SEPARATOR in cleaned:
        raise RefHCMError(f"a caption is empty or holds {CAPTION_SEPARATOR}.")
    _check_letters(cleaned, "a caption")
    return cleaned


def _words(text: str | None) -> str:
    if text is None:
        return BY_REGION
    cleaned = clean_field(text)
    return cleaned.lower() if cleaned in (BY_REGION, EVERYBODY) else cleaned  # somebody's words, and not our mark


def _box(box: Box, row: str) -> str:
    x1, y1, x2, y2 = (round(float(value), 2) for value in box)
    if not (x1 < x2 and y1 < y2):
        raise RefHCMError(f"{row}: the box has no width or height.")
    return numbers(box)


def _captions(captions: Iterable[str], row: str) -> str:
    try:
        return CAPTION_SEPARATOR.join(map(caption_field, captions))
    except RefHCMError as error:
        raise RefHCMError(f"{row}: {error}") from error


def _check_letters(value: str, what: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a letter, as a damaged source may have it
        raise RefHCMError(f"{what} holds a character that is none.") from error


def _keypoints(keypoints: np.ndarray | None) -> str:
    if keypoints is None:
        return ""
    if keypoints.shape != (len(KEYPOINT_NAMES), 3):
        raise RefHCMError(f"Keypoints are 17 times x, y, v, not an array of shape {keypoints.shape}.")
    return numbers(np.where(keypoints[:, 2:] > 0, keypoints, 0).ravel())


def _joined(entries: Iterable[str]) -> str:
    """One entry per person; nothing at all where no entry says anything."""
    listed = list(entries)
    return BETWEEN_PEOPLE.join(listed) if any(listed) else ""
