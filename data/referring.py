"""Dataset files in the published and our own layouts: row -> question, right answer, picture.

A row that cannot be used raises BadRow, which names the file and the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import RefHCMError
from .annotation import Annotation, Question
from .commands import is_file
from .images import open_sized
from .known import About, Known
from .others import Everybody
from .row_file import BadRow
from .rows import OWN, Reading, open_rows, read_pair
from .transforms import Pair


class ReferringDataset:
    """Rows of one dataset file: `dataset[i]` is (Question, Annotation, RGB picture).

    `kind` names one of `LAYOUTS`; `columns` (field -> column) describes any other arrangement of the same
    fields. The picture column holds base64 of a picture file (either alphabet), or a path below `root`
    (default: the folder of the file, then its `annos/`); the part map column a path of a `.npy` (integers) or
    `.png` (grey or palette), read only with `parts`, as masks (the person's, and where the picture has a row about
    everybody those of all others) are only with `masks`. Published subfolders `imgs/` and `gts/` are looked into as
    well. The text `None` means that the box itself is the prompt. `scoring` prepares captions
    as the published evaluation does (no punctuation). `draft` lets JPEGs come smaller (see `images.open_sized`);
    coordinates always refer to the full picture. Raises BadRow, naming file and line, for a row that cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        kind: str,
        *,
        columns: Mapping[str, int] | None = None,
        root: str | Path | None = None,
        parts: bool = False,
        masks: bool = False,
        scoring: bool = False,
        draft: int = 0,
    ) -> None:
        self.kind = kind
        self.file = open_rows(path, kind, columns)
        folder = self.file.path.parent
        self.roots = [Path(root)] if root is not None else [folder, folder / "annos"]
        self.draft = draft
        self._parts, self._masks, self._scoring = parts, masks, scoring

    def __len__(self) -> int:
        return len(self.file)

    def __getitem__(self, row: int) -> tuple[Question, Annotation, Image.Image]:
        pairs, image = self.load([row])
        assert image is not None
        return *pairs[row], image

    def load(
        self, rows: Sequence[int], bad: list[BadRow] | None = None
    ) -> tuple[dict[int, Pair], Image.Image | None]:
        """Questions with their answers for rows of one picture, and that picture, decoded once.

        With `bad`, rows that cannot be used are added to it and left out (without any other, the picture is None);
        otherwise the first of them is raised.
        """
        found: list[BadRow] = []
        fields = self._fields(rows, found)
        pairs: dict[int, Pair] = {}
        image = None
        if fields:
            first, said = next(iter(fields.items()))
            try:
                image, size = open_sized(self.picture_source(first, said["image"]), orient=False, draft=self.draft)
            except RefHCMError as error:
                found += [self.file.bad(row, str(error)) for row in fields]
        if image is not None:
            reading = Reading(self.kind == OWN, self.parts_source, self._parts, self._masks, self._scoring)
            for row, said in fields.items():
                try:
                    pairs[row] = read_pair(said, size, reading)
                except ValueError as error:
                    found.append(self.file.bad(row, str(error)))
            if self._masks and reading.own:
                pairs = self._with_others(pairs, said.get("image_id", ""), size, found)
        if bad is None and found:
            raise found[0]
        if bad is not None:
            bad += found
        return pairs, image if pairs else None

    def with_parts(self, parts: bool) -> ReferringDataset:
        """The same rows with their part maps, or without."""
        other = copy(self)
        other._parts = parts
        return other

    def name(self, row: int) -> str:
        """The id of a row, for reports and results."""
        return self.file.head(row, ["id"])["id"]

    def picture_key(self, row: int) -> str:
        """What is equal for rows of the same picture and for no others: where or what it is, and its id where rows have
        one. A row that cannot be read has a key of its own."""
        named = [name for name in ("image_id",) if name in self.file.columns]
        try:
            return ":".join([str(self.file.path), self.file.picture_name(row), *self.file.head(row, named).values()])
        except BadRow as error:
            return str(error)

    def groups(self, limit: int, among: Iterable[int] | None = None) -> list[list[int]]:
        """Rows of the same picture together, at most `limit` of them, in order of first appearance; all rows, or those
        `among` which are given."""
        open_groups: dict[str, list[int]] = {}
        groups: list[list[int]] = []
        for row in range(len(self)) if among is None else among:
            key = self.picture_key(row)
            group = open_groups.get(key)
            if group is None or len(group) >= limit:
                group = open_groups[key] = []
                groups.append(group)
            group.append(int(row))
        return groups

    @cached_property
    def known(self) -> Known:
        """What each row knows, and about whom; found at the first use."""
        return Known(self.file, self.kind)

    def usable(self, needs: Sequence[str], about: About = "one", points: bool = False) -> np.ndarray:
        """int64 numbers of the rows that are `about` so many people (see `known.About`) and know these fields of each
        of them: names of columns (`text`: words, not a region alone), or `others`. With `points`, rows that ask about
        one person by points are among them, as if they had words. Rows that cannot be read are, too, to be met and
        counted by who uses them.
        """
        lacking = self.shortfall(needs, about, points).values()
        left = np.ones(len(self), bool)
        for rows in lacking:
            left &= ~rows
        return np.flatnonzero(left)

    def shortfall(self, needs: Sequence[str], about: About = "one", points: bool = False) -> dict[str, np.ndarray]:
        """Why the other rows are not usable: reason -> bool (rows), each row under its first reason."""
        return self.known.lacking(tuple(needs), about, points)

    def picture_source(self, row: int, value: str) -> Path | bytes:
        """The picture of a row whose picture field is `value`: its file, or the bytes of one. RefHCMError where there
        is none, or it lies outside the folder."""
        content = self.file.picture(row, value)
        return self._find(value, "imgs") if content is None else content

    def parts_source(self, value: str) -> Path | bytes:
        """As `picture_source`, for a part map that a row names."""
        content = self.file.part_map(value)
        return self._find(value, "gts") if content is None else content

    # -- reading rows ----------------------------------------------------------------------------------------
    def _fields(self, rows: Sequence[int], bad: list[BadRow]) -> dict[int, dict[str, str]]:
        """The fields of rows that can be read; the picture is in those of the first of them only."""
        fields: dict[int, dict[str, str]] = {}
        others = [name for name in self.file.columns if name != "image"]
        for row in rows:
            try:
                fields[row] = self.file.read(row, others) if fields else self.file[row]
            except BadRow as error:
                bad.append(error)
        return fields

    def _with_others(
        self, pairs: dict[int, Pair], picture: str, size: tuple[int, int], bad: list[BadRow]
    ) -> dict[int, Pair]:
        """The pairs of a picture with `others`, where a row lists everybody; none, where that row cannot be used."""
        place = self.known.places.get(picture)
        if place is None or not pairs:
            return pairs
        try:
            if place in pairs:
                _, answer = pairs[place]
            else:
                fields = self.file.head(place, [name for name in self.file.columns if name != "image"])
                _, answer = read_pair(fields, size, Reading(True, self.parts_source, masks=True))
        except ValueError as error:
            why = error.why if isinstance(error, BadRow) else error
            line = self.file.line(place)
            bad += [self.file.bad(row, f"line {line}, about everybody in its picture: {why}") for row in pairs]
            return {}
        everybody = Everybody(answer.people or (), size)
        return {row: (question, everybody.complete(asked)) for row, (question, asked) in pairs.items()}

    def _find(self, relative: str, subfolder: str) -> Path:
        """The file that a row names, inside one of the roots and nowhere else."""
        path = Path(relative)
        if path.is_absolute() or ".." in path.parts or not relative:
            raise RefHCMError(f"the path {relative} leaves the dataset's folder.")
        for root in self.roots:
            for candidate in (root / subfolder / path, root / path):
                if is_file(candidate):
                    return candidate
        raise RefHCMError(f"there is no file {relative} in {' or '.join(map(str, self.roots))}.")
