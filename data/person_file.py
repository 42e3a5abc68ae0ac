"""Our own dataset files: one row per expression or region, with all that is known about the people it means.

A row has ten fields between tabs, in the order of `COLUMNS`; what is not known is left empty:

    id         unique in the file; `{dataset}:{ref}:{sentence}` in converted sets
    image_id   the source's own image id (for COCO the number), by which leaks between splits are found
    text       the words; `None`: the box itself is the question
    box        x1,y1,x2,y2 in continuous pixels; empty: nobody is meant
    keypoints  51 numbers x,y,v in COCO order, v as in COCO (0 unlabelled, 1 hidden, 2 seen)
    codes      48 codes of the part map (see models/label_map_codes.py)
    parts      path of the part map, a grey PNG of CIHP classes
    captions   descriptions joined by &&
    mask       COCO's compressed run lengths of the person's visible pixels; the size is the picture's
    image      path of the picture, or the picture file in base64

Where words mean several people, `box`, `keypoints`, `parts` and `mask` hold one entry each, joined by `|`.
Paths count from the folder of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from ..errors import RefHCMError
from .annotation import KEYPOINT_NAMES, Box
from .text import CAPTION_SEPARATOR

COLUMNS = ("id", "image_id", "text", "box", "keypoints", "codes", "parts", "captions", "mask", "image")
BY_REGION = "None"
"""Stands for the words where the box itself is the question."""
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


@dataclass(frozen=True)
class PersonRow:
    """A row before it is written. Without people it says that nobody fits the words."""

    id: str
    image_id: str
    image: str
    people: tuple[Person, ...]
    text: str | None = None
    """None: the question is the region of the one person."""
    captions: tuple[str, ...] = ()
    codes: tuple[int, ...] | None = None

    def line(self) -> str:
        """The row as it stands in the file, with its line end. RefHCMError for what a row cannot say."""
        if self.text is None and len(self.people) != 1:
            raise RefHCMError(f"{self.id}: a question without words needs exactly one person, not {len(self.people)}.")
        if self.codes is not None and len(self.people) != 1:
            raise RefHCMError(f"{self.id}: part codes are those of one person, not of {len(self.people)}.")
        fields = {
            "id": self.id,
            "image_id": self.image_id,
            "text": BY_REGION if self.text is None else clean_field(self.text),
            "box": _joined(numbers(person.box) for person in self.people),
            "keypoints": _joined(_keypoints(person.keypoints) for person in self.people),
            "codes": "" if self.codes is None else ",".join(map(str, self.codes)),
            "parts": _joined(person.parts or "" for person in self.people),
            "captions": CAPTION_SEPARATOR.join(map(clean_field, self.captions)),
            "mask": _joined(person.mask or "" for person in self.people),
            "image": self.image,
        }
        for name, value in fields.items():
            if any(character in value for character in "\t\r\n"):
                raise RefHCMError(f"{self.id}: the field {name} holds a tab or a line end.")
        return "\t".join(fields[name] for name in COLUMNS) + "\n"


class PersonWriter:
    """Writes a file of rows that appears, under its name, only when it is complete.

        with PersonWriter(path) as out:
            out.add(row)

    After an error inside the block nothing is left behind, and an older file of that name is untouched.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.count = 0
        self._part = self.path.with_name(self.path.name + ".part")
        self._file = self._part.open("w", encoding="utf-8", newline="\n")

    def add(self, row: PersonRow) -> None:
        """Append one row."""
        self._file.write(row.line())
        self.count += 1

    def __enter__(self) -> PersonWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give the file its name, or remove it after an error."""
        self._file.close()
        if kind is None:
            os.replace(self._part, self.path)
        else:
            self._part.unlink(missing_ok=True)


def numbers(values: Iterable[float]) -> str:
    """Numbers between commas, to a hundredth of a pixel, without needless zeros."""
    return ",".join(f"{round(float(value), 2):.10g}" for value in values)


def clean_field(text: str) -> str:
    """Words as one field can hold them: tabs and line ends become spaces, everything else stays."""
    return " ".join(text.split())


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
