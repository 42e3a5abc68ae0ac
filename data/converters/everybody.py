"""Rows about everybody in a picture, which converters add with `--everybody` (see `person_file`).

Only a source that knows all people of its pictures can say who is everybody. In COCO's annotations these are the ones
of the category person. Where a region with `iscrowd` stands for more people than anybody counted, or one of the people
cannot be read, the picture gets no such row, which would teach that those people are background. The report counts
such pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from ..person_file import Person, PersonRow
from .base import Job, Option
from .coco import is_person
from .pictures import Picture
from .skip import Skip

EVERYBODY = Option("everybody", "also a row per picture that lists everybody in it, where all are known", bool, False)


class Everybody:
    """Remembers the pictures of a conversion, and lists everybody of those that have rows, in the files of these."""

    def __init__(self, job: Job, name: str, wanted: bool | None = None) -> None:
        """`name` begins the ids of the rows; `wanted` (None: the option --everybody) is whether there are any."""
        self.job, self.name = job, name
        self.wanted = bool(job.option(EVERYBODY.name)) if wanted is None else wanted
        self._pictures: dict[tuple[str, str], Callable[[], Picture]] = {}

    def note(self, split: str, image_id: str, picture: Callable[[], Picture]) -> None:
        """Rows of this picture may be written; `picture` finds it again."""
        if self.wanted:
            self._pictures.setdefault((split, image_id), picture)

    def write(self, people: Callable[[str, Picture], Iterable[Person]]) -> None:
        """Add the rows, last of all. `people` gives everybody by the id of a picture, or raises Skip."""
        for (split, image_id), find in self._pictures.items():
            if self.job.report.has(split, image_id):
                with self.job.guard(f"everybody in picture {image_id}"):
                    picture = find()
                    add_everybody(self.job, self.name, split, image_id, picture.value, people(image_id, picture))


def add_everybody(job: Job, name: str, split: str, image_id: str, image: str, people: Iterable[Person]) -> None:
    """Add the row about everybody in a picture to the file of a split."""
    row = f"{name}:everybody:{split}:{image_id}"
    job.add(split, PersonRow(row, image_id, image, tuple(people), everybody=True))


class CocoPeople:
    """Everybody in the pictures of COCO's annotations. `read` makes a person of an annotation and a picture's (width,
    height), or raises Skip."""

    def __init__(
        self, annotations: Iterable[Mapping[str, Any]], read: Callable[[Mapping[str, Any], tuple[int, int]], Person]
    ) -> None:
        self._read = read
        self._found: dict[str, list[Mapping[str, Any]]] = {}
        for annotation in annotations:
            if is_person(annotation):
                self._found.setdefault(str(annotation.get("image_id")), []).append(annotation)

    def of(self, image_id: str, picture: Picture) -> list[Person]:
        """Everybody in a picture; Skip where there is a crowd, or somebody cannot be read."""
        people = []
        for annotation in self._found.get(image_id, []):
            if annotation.get("iscrowd"):
                raise Skip("not everybody is listed: some of the people are annotated as a crowd")
            try:
                people.append(self._read(annotation, picture.size))
            except Skip as why:
                raise Skip(f"not everybody can be listed: {why}") from why
        return people


class Gathered:
    """Everybody in pictures of which each person has lines of its own in a table."""

    def __init__(self) -> None:
        self._people: dict[tuple[str, str], dict[tuple[float, ...], Person]] = {}
        self._images: dict[tuple[str, str], str] = {}
        self._unsure: set[str] = set()

    def add(self, split: str, image_id: str, image: str, people: Iterable[Person]) -> None:
        """People of a picture; those with the same box are one person, of whom all is known that any line says."""
        found = self._people.setdefault((split, image_id), {})
        self._images[split, image_id] = image
        for person in people:
            found[person.box] = _together(found[person.box], person) if person.box in found else person

    def unsure(self, image: str) -> None:
        """A line of this picture cannot be used, so that not everybody is known."""
        self._unsure.add(image)

    def write(self, job: Job, name: str) -> None:
        """Add the rows, last of all."""
        for (split, image_id), people in self._people.items():
            with job.guard(f"everybody in picture {image_id}"):
                image = self._images[split, image_id]
                if image in self._unsure:
                    raise Skip("not everybody is listed: other lines about the picture cannot be used")
                add_everybody(job, name, split, image_id, image, people.values())


def _together(one: Person, other: Person) -> Person:
    """What is known of a person from either."""
    known = {field.name: getattr(one, field.name) for field in fields(Person)}
    return Person(**{name: getattr(other, name) if value is None else value for name, value in known.items()})
