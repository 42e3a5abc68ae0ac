"""`refhcm convert own`: a table of your own (JSON lines, JSON, CSV, TSV), one line per person; see docs/own-data.md.

    {"image": "photos/a.jpg", "text": "the man in red", "box": [40, 30, 210, 400]}

A line that cannot be used is reported with its cause, the others go on. With --everybody the lines of a picture name
everybody in it. Labels refer to a photo as viewers show it: photos that are stored turned (EXIF) are written again
upright, unless --as-stored says that labels count in the stored pixels. The id of a picture is COCO's where its name is
one of COCO's, otherwise the checksum of its file, so that a photo under two names is still one photo.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...errors import RefHCMError
from ..annotation import Box
from ..images import open_image, turned_by_exif
from ..leakage import coco_id
from ..masks import mask_extent
from ..person_file import BY_REGION, Person, PersonRow
from ..text import CAPTION_SEPARATOR, clean_caption
from .base import Converter, Job, Option, check_places
from .everybody import Gathered
from .pictures import Picture, PictureFolder
from .skip import Skip
from .tables import ENDINGS, Aliases, Line, named, read_table
from .values import BOX_FORMS, BadValue, check_points, inside, read_boxes, read_mask, read_parts, read_points

COLUMNS: Aliases = {
    "image": ("file_name", "filename", "file", "path", "img", "image_path", "picture", "photo"),
    "text": ("texts", "expression", "expressions", "sentence", "sentences", "query", "phrase", "words"),
    "box": ("bbox", "boxes", "region"),
    "keypoints": ("points", "joints", "pose"),
    "parts": ("part_map", "parsing"),
    "mask": ("segmentation", "rle"),
    "captions": ("caption", "description", "descriptions"),
    "id": ("row_id", "anno_id"),
    "image_id": (),
    "split": ("subset", "set"),
}
"""Field -> what its column may be called as well."""
CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"))
"""Columns that may stand for `box`."""
_NO_BOX = (
    f"it has no box: call its column {', '.join(('box', *COLUMNS['box']))}, or its four columns "
    f"{' or '.join(' '.join(corners) for corners in CORNERS)}, and write [] where nobody fits the words"
)
PROBLEMS = "problems.txt"
UPRIGHT = "upright"
"""Folder of photos that were stored turned."""
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
"""Name of a table or of a split as people write it -> the name of the file that is made."""
_QUALITY = 95
_TOLD = 3
"""Problems that are told when nothing can be used."""


def convert(job: Job) -> None:
    """Every table of the source."""
    tables = find_tables(job.options.source)
    if job.out.resolve() == tables[0].parent.resolve():
        raise RefHCMError(f"{job.out} is the folder of {tables[0].name}: name another folder as --out.")
    folder = job.options.images or tables[0].parent
    reader = OwnData(job, folder)
    total = 0
    for table in tables:
        split = SPLITS.get(table.stem.lower(), "train")
        for line in job.progress(read_table(table), table.name):
            total += 1
            reader.line(table, line, split)
    reader.finish(tables, total)


def find_tables(source: Path) -> list[Path]:
    """The tables of a source: the file itself, the only table of the folder, or those called train, val or test.

    RefHCMError when there is none, or when it cannot be told which of several is meant.
    """
    if source.is_file():
        return [source]
    found = sorted(path for path in source.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    if not found:
        raise RefHCMError(f"There is no table in {source}: --source is a file *{', *'.join(ENDINGS)} or its folder.")
    named_so = [path for path in found if path.stem.lower() in SPLITS]
    if len(found) > 1 and not named_so:
        names = ", ".join(path.name for path in found[:5])
        raise RefHCMError(f"{source} has several tables ({names}): name one of them, as --source {found[0]}.")
    return named_so or found


class OwnData:
    """Lines of tables into rows of a job; `problems` holds a sentence for each line that could not be used."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.folder = job, folder
        self.form: str = job.option("box-form")
        self.scores: float | None = job.option("score-above")
        self.photos = Photos(job, folder, as_stored=job.option("as-stored"))
        self.shares = Shares(job.option("val-share"))
        self.problems: list[str] = []
        self._everybody = Gathered()
        self._photo: Photo | None = None
        self._unused: set[str] = set()

    def line(self, table: Path, line: Line, split: str) -> None:
        """Add the row or rows of a line, or note why there is none."""
        self._photo = None
        try:
            if line.error:
                raise BadValue(line.error)
            fields, unused = named(_one_box(line.cells), COLUMNS)
            self._unused.update(unused)
            self._add(fields, unused, line, table, split)
        except Skip as error:
            found = getattr(error, "found", "")
            self.problems.append(f"{table.name}, {line.where}: {error}{f': {found}' if found else ''}")
            self.job.report.skip(str(error), f"{line.where} of {table.name}{f' ({found})' if found else ''}")
            if self._photo is not None:
                self._everybody.unsure(self._photo.value)

    def finish(self, tables: list[Path], total: int) -> None:
        """Write the problems to a file; RefHCMError when nothing could be used."""
        report = self.job.report
        if self.job.option("everybody"):
            self._everybody.write(self.job, "own")
        if self._unused:
            report.note(f"columns that are not used: {', '.join(sorted(self._unused)[:10])}")
        if self.photos.turned:
            report.note(f"{self.photos.turned} photos were stored turned and are written upright to {UPRIGHT}/")
        path = self.job.out / PROBLEMS
        path.unlink(missing_ok=True)
        if not self.problems:
            return
        text = "".join(f"{' '.join(problem.split())}\n" for problem in self.problems)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")  # what is wrong may be the letters
        names = ", ".join(table.name for table in tables)
        if len(self.problems) == total:
            told = "; ".join(self.problems[:_TOLD])
            raise RefHCMError(f"None of the {total} lines of {names} can be used: {told}.")
        report.note(f"{len(self.problems)} of {total} lines cannot be used; {path} says why, line by line")

    # -- one line --------------------------------------------------------------------------------------------
    def _add(self, fields: dict[str, Any], unused: list[str], line: Line, table: Path, split: str) -> None:
        if "image" not in fields:
            there = ", ".join(map(repr, list(line.cells)[:8])) or "nothing"
            raise BadValue(f"it has no image: name that column one of {', '.join(('image', *COLUMNS['image']))}", there)
        photo = self._photo = self.photos.get(_word(fields["image"], "image"))
        texts, captions = _texts(fields.get("text")), _captions(fields.get("captions"))
        if not {"box", "mask"} & set(fields):
            told = f"not used: {', '.join(unused)}" if unused else f"found: {', '.join(sorted(fields))}"
            raise BadValue(_NO_BOX, told)
        people = self._people(fields, photo.size)
        if not texts and len(people) != 1:
            raise BadValue("it has neither text nor exactly one box, so nothing is asked", f"{len(people)} boxes")
        number = line.where.split()[-1]
        name = _word(fields.get("id", f"{table.stem}:{number}"), "id")
        image_id = _word(fields.get("image_id", photo.image_id), "image_id")
        people = self._with_parts(people, fields, photo.size, f"{table.stem}_{number}")
        split = self._split(fields, split, image_id)
        for k, text in enumerate(texts or [None]):
            row_id = name if len(texts) < 2 else f"{name}:{k}"
            self.job.add(split, PersonRow(row_id, image_id, photo.value, people, text, captions))
        self._everybody.add(split, image_id, photo.value, people)

    def _people(self, fields: dict[str, Any], size: tuple[int, int]) -> tuple[Person, ...]:
        """Whom the line means: the boxes, or the box around the mask; everything else needs exactly one person."""
        mask = read_mask(fields["mask"], size, self.folder) if "mask" in fields else None
        if "box" in fields:
            boxes: tuple[Box, ...] = read_boxes(fields["box"], size, self.form)
        else:
            assert mask is not None
            boxes = (_mask_box(mask, size),)
        single = [name for name in ("keypoints", "parts", "mask") if name in fields]
        if len(boxes) != 1 and single:
            raise BadValue(f"it has {' and '.join(single)} but not exactly one box", f"{len(boxes)} boxes")
        if mask is not None:
            check_places(boxes[0], None, mask, size)
        if "keypoints" not in fields:
            return tuple(Person(box, mask=mask) for box in boxes)
        points = read_points(fields["keypoints"], self.scores)
        check_points(points, size)
        return (Person(boxes[0], points, mask),)

    def _with_parts(
        self, people: tuple[Person, ...], fields: dict[str, Any], size: tuple[int, int], name: str
    ) -> tuple[Person, ...]:
        """The same, with a copy of the part map, the last thing that is written for a line."""
        if "parts" not in fields:
            return people
        parts = read_parts(fields["parts"], size, self.folder)
        if not np.isin(parts, (0, 255), invert=True).any():
            raise BadValue("the part map is empty: all of it is background", fields["parts"])
        (person,) = people
        return (Person(person.box, person.keypoints, person.mask, self.job.part_map(_file_name(name), parts)),)

    def _split(self, fields: dict[str, Any], split: str, image_id: str) -> str:
        if "split" not in fields:
            return self.shares.of(image_id) if split == "train" else split
        name = _word(fields["split"], "split")
        if not re.fullmatch(r"[A-Za-z]\w{0,30}", name, re.ASCII):
            raise BadValue("the split is no simple name like train or val", name)
        return SPLITS.get(name.lower(), name)


class Photos:
    """Pictures by the name that a line gives, each looked at once; `turned` counts those that are written upright."""

    def __init__(self, job: Job, folder: Path, as_stored: bool) -> None:
        self.job, self.folder, self.as_stored = job, folder.resolve(), as_stored
        self.pictures: PictureFolder = job.pictures(folder)
        self.turned = 0
        self._known: dict[str, Photo | BadValue] = {}

    def get(self, name: str) -> Photo:
        """The photo; BadValue where it is missing or cannot be opened."""
        if name not in self._known:
            try:
                self._known[name] = self._look(self._relative(name))
            except BadValue as error:
                self._known[name] = error
        known = self._known[name]
        if isinstance(known, BadValue):
            raise known
        return known

    def _relative(self, name: str) -> str:
        """The name below the folder, also where the line has the whole path of a file that lies there."""
        path = Path(name.replace("\\", "/"))  # as Windows writes paths
        if path.is_absolute() and path.is_relative_to(self.folder):
            path = path.relative_to(self.folder)
        inside(self.folder, str(path))
        return str(PurePosixPath(path))

    def _look(self, name: str) -> Photo:
        path = self.folder / name
        try:
            picture = self.pictures.get(name)
            turn = not self.as_stored and turned_by_exif(path)
            if turn:
                picture = self._upright(name, path)
        except RefHCMError as error:
            raise BadValue(str(error), name) from error
        number = coco_id(name)
        return Photo(picture, f"own:{_checksum(path)}" if number is None else str(number))

    def _upright(self, name: str, path: Path) -> Picture:
        """A copy that needs no turning, where rows can name it."""
        self.turned += 1
        image = open_image(path)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=_QUALITY)
        if self.job.options.pictures == "embed":
            return Picture(base64.b64encode(stream.getvalue()).decode("ascii"), image.size, path)
        value = f"{UPRIGHT}/{PurePosixPath(name).with_suffix('')}_{PurePosixPath(name).suffix.strip('.')}.jpg"
        target = self.job.out / value
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(stream.getvalue())
        return Picture(value, image.size, target)


class Photo:
    """A picture and the id by which it is known again under any name."""

    def __init__(self, picture: Picture, image_id: str) -> None:
        self.picture, self.image_id = picture, image_id

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), as labels count."""
        return self.picture.size

    @property
    def value(self) -> str:
        """What a row says of it."""
        return self.picture.value


class Shares:
    """Puts every n-th new picture into `val`, with all its lines, so that about `share` of the pictures are there."""

    def __init__(self, share: float) -> None:
        if not 0 <= share <= 0.5:
            raise RefHCMError(f"--val-share is a share of the pictures from 0 to 0.5, not {share:g}.")
        self.every = round(1 / share) if share else 0
        self._split: dict[str, str] = {}

    def of(self, image_id: str) -> str:
        """The split of a picture."""
        if image_id not in self._split:
            last = self.every and len(self._split) % self.every == self.every - 1
            self._split[image_id] = "val" if last else "train"
        return self._split[image_id]


# -- cells ---------------------------------------------------------------------------------------------------
def _one_box(cells: dict[str, Any]) -> dict[str, Any]:
    """Four columns of corners as one column `box`."""
    lower = {name.strip().lower(): name for name in cells}
    for corners in CORNERS:
        if all(corner in lower for corner in corners) and not {"box", *COLUMNS["box"]} & set(lower):
            columns = [lower[corner] for corner in corners]
            rest = {name: value for name, value in cells.items() if name not in columns}
            return {**rest, "box": ",".join(str(cells[name]) for name in columns)}
    return cells


def _texts(value: Any) -> list[str]:
    """The expressions of a line; none where the box itself is the question."""
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(text, str) for text in listed):
        raise BadValue("the text is no text", value)
    return [text.strip() for text in listed if text.strip() and text.strip() != BY_REGION]


def _captions(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(text, str) for text in listed):
        raise BadValue("a caption is no text", value)
    parts = (part.strip() for text in listed for part in text.split(CAPTION_SEPARATOR))
    return tuple(part for part in parts if clean_caption(part))


def _word(value: Any, what: str) -> str:
    """A name or number as text."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise BadValue(f"the {what} is no name", value)
    return str(value).strip()


def _mask_box(counts: str, size: tuple[int, int]) -> Box:
    box = mask_extent(counts, size)
    if box is None:
        raise BadValue("the mask is empty")
    return box


def _file_name(name: str) -> str:
    """Any text as a file name."""
    return re.sub(r"[^\w-]+", "_", name)


def _checksum(path: Path) -> str:
    """16 hex digits that tell the content of a file from that of others."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


CONVERTERS = (
    Converter(
        "own",
        "a table of your own: image, text, box and what else you know (docs/own-data.md)",
        convert,
        layout="a table (.jsonl, .json, .csv or .tsv) with columns like image, text and box, or the folder of one; "
        "paths in it count from its folder.",
        licence="your own data, your own terms",
        options=(
            Option("box-form", "xyxy: x1, y1, x2, y2 (default); xywh: x, y, width, height", default="xyxy",
                   choices=BOX_FORMS),
            Option("score-above", "the third number of a keypoint is a score; above this it counts as seen", float),
            Option("val-share", "share of the pictures that goes to val.tsv where lines name no split (default 0)",
                   float, 0.0),
            Option("as-stored", "labels count in the stored pixels of photos that viewers show turned", bool, False),
            Option("tokenizer", "folder with label_map.json: fill in the codes of part maps"),
            Option("everybody", "the lines of a picture name everybody in it: also a row per picture that lists them",
                   bool, False),
        ),
    ),
)  # fmt: skip
