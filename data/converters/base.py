"""What every converter shares: its options, its job of writing rows, and the checks on what the source says.

A converter is a function that reads the source and adds rows:

    def convert(job: Job) -> None:
        pictures = job.pictures(job.images_folder("images/train2014", "train2014"))
        for ref in read_json(job.source("refs.json"), list):
            where = f"ref {ref.get('ref_id')}"
            with job.guard(where):                       # what raises Skip in here is counted and named
                picture = pictures.get(need(ref, "file_name", str))
                box = person_box(need(ref, "bbox", list), picture.size)
                row = PersonRow(f"mine:{ref['ref_id']}:0", str(ref["image_id"]), picture.value, (Person(box),), "text")
                job.add("train", row)

    CONVERTERS = (Converter("mine", "...", convert, layout="...", licence="..."),)

Rows of the split `train` go to OUT/train.tsv, part maps to OUT/parts/, pictures are reached through OUT/images, and
OUT/report.json says what was written and what was left out. Files appear when all of them are complete. In a folder of
an earlier conversion of the same dataset they take the place of its files, and those of splits that are no longer there
are removed; any other file of rows that is in the way is left alone, and the conversion refused.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ...errors import RefHCMError
from ..annotation import KEYPOINT_NAMES, Box
from ..commands import writable_folder
from ..json_file import read_json
from ..masks import apart, mask_extent
from ..person_file import EDGE, PersonRow, PersonWriter, caption_field
from ..tsv import index_path
from .pictures import POLICIES, PictureFolder
from .report import REPORT_FILE, Report
from .skip import Skip

__all__ = ["Converter", "Job", "Option", "Options", "Skip", "keypoints_of", "need", "optional", "person_box", "run"]

PARTS = "parts"
MAX_REPORT_BYTES = 64 << 20
Item = TypeVar("Item")


@dataclass(frozen=True)
class Option:
    """A switch of one converter, `--NAME`. `kind` is bool for a switch without a value, else what its value is."""

    name: str
    help: str
    kind: type = str
    default: Any = None
    choices: tuple[str, ...] | None = None
    required: bool = False


@dataclass(frozen=True)
class Options:
    """What a conversion is asked to do."""

    source: Path
    """The folder (or file) of the official download."""
    out: Path
    images: Path | None = None
    """The folder of pictures; None: where the official layout has it, below `source`."""
    pictures: str = "link"
    """How rows come to their pictures: one of `pictures.POLICIES`."""
    special: Mapping[str, Any] = field(default_factory=dict)
    """The converter's own options by name (`Option.name`); what is not given has its default."""
    progress: bool = False


@dataclass(frozen=True)
class Converter:
    """One official layout and the function that reads it."""

    name: str
    help: str
    """One line."""
    convert: Callable[[Job], None]
    layout: str
    """What --source must hold."""
    licence: str
    options: tuple[Option, ...] = ()
    pictures: bool = True
    """Whether --images and --pictures mean anything to it."""


class Job:
    """One conversion: where to read and write, and the count of what happens. Used as a context it completes, or on an
    error removes, the files."""

    def __init__(self, converter: Converter, options: Options) -> None:
        if options.pictures not in POLICIES:
            raise RefHCMError(f"--pictures is one of {', '.join(POLICIES)}, not {options.pictures!r}.")
        if not options.source.exists():
            raise RefHCMError(f"There is nothing at {options.source}: --source is {converter.layout}")
        unknown = set(options.special) - {option.name for option in converter.options}
        if unknown:
            raise RefHCMError(f"{converter.name} has no option --{min(unknown)}.")
        self.converter, self.options = converter, options
        self.out = writable_folder(options.out)
        self._earlier = earlier_splits(self.out, converter.name)
        self.report = Report(converter.name, converter.licence)
        self._stack = ExitStack()
        self._writers: dict[str, PersonWriter] = {}
        self._ids: set[str] = set()
        self._opened: list[PictureFolder] = []

    # -- the source ------------------------------------------------------------------------------------------
    def option(self, name: str) -> Any:
        """The value of one of the converter's own options."""
        defaults = {option.name: option.default for option in self.converter.options}
        return self.options.special.get(name, defaults[name])

    def source(self, *names: str) -> Path:
        """The first of these paths below the source that exists; RefHCMError says what the source should hold."""
        found = self.find(*names)
        if found is None:
            raise RefHCMError(
                f"There is no {' or '.join(names)} in {self.options.source}: --source is {self.converter.layout}"
            )
        return found

    def find(self, *names: str) -> Path | None:
        """As `source`, or None."""
        paths = (self.options.source / name for name in names)
        return next((path for path in paths if path.exists()), None)

    def images_folder(self, *names: str) -> Path:
        """The folder given with --images, or the first of these below the source."""
        if self.options.images is not None:
            return self.options.images
        found = self.find(*names)
        if found is None:
            raise RefHCMError(f"No folder of pictures was found below {self.options.source}: name it with --images.")
        return found

    def pictures(self, folder: Path, under: str = "") -> PictureFolder:
        """The pictures of a folder for rows to name; `under` tells several folders of one conversion apart."""
        opened = PictureFolder(folder, self.out, self.options.pictures, under)
        self._opened.append(opened)
        return opened

    def progress(self, items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
        """The items, with a progress bar on stderr where one is wanted."""
        from tqdm import tqdm

        return tqdm(items, desc=what, total=total, disable=None if self.options.progress else True)

    # -- what is written -------------------------------------------------------------------------------------
    @contextmanager
    def guard(self, where: str) -> Iterator[None]:
        """A Skip inside ends the block and is counted; `where` names the entry of the source, such as `ref 12`."""
        try:
            yield
        except Skip as skip:
            self.report.skip(str(skip), where)

    def add(self, split: str, row: PersonRow) -> None:
        """Write a row to the file of a split. Skip where its id was written before or a field cannot be written."""
        if row.id in self._ids:
            raise Skip("the id was written before")
        try:
            row.line(bool(row.points))
        except RefHCMError as error:
            raise Skip(str(error).removeprefix(f"{row.id}: ").rstrip(".")) from error
        if split not in self._writers:
            if not split.isidentifier():
                raise Skip("the name of the split cannot be the name of a file")
            path = self.out / f"{split}.tsv"
            if path.exists() and split not in self._earlier:
                raise RefHCMError(f"{path} is there and no earlier conversion wrote it: name another --out.")
            self._writers[split] = self._stack.enter_context(PersonWriter(path, bool(row.points)))
        self._writers[split].add(row)
        self._ids.add(row.id)
        self.report.row(split, row)

    def captions(self, listed: Iterable[str], whose: str) -> tuple[str, ...]:
        """Those of somebody's captions that a row can hold; the others are counted."""
        kept = []
        for number, caption in enumerate(listed):
            with self.guard(f"caption {number} of {whose}"):
                try:
                    kept.append(caption_field(caption))
                except RefHCMError as error:
                    raise Skip(str(error).rstrip(".")) from error
        return tuple(kept)

    def part_map(self, name: str, parts: np.ndarray) -> str:
        """Write a part map, uint8 (H, W), as a grey PNG; gives the path for a row's `parts`. `name` (without ending)
        must be unique; it may hold subfolders.
        """
        path = self.out / PARTS / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(parts, np.uint8)).save(file, "PNG", compress_level=6)
        part = path.with_name(path.name + ".part")
        part.write_bytes(file.getvalue())
        os.replace(part, path)
        return f"{PARTS}/{name}.png"

    @property
    def files(self) -> list[Path]:
        """The files that were written, one per split."""
        return [writer.path for writer in self._writers.values()]

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the files; without a single row, RefHCMError says why there is none and leaves nothing."""
        if kind is None and not self._writers:
            reasons = "; ".join(f"{count:,} times {why}" for why, count in self.report.skipped.most_common(3))
            raise RefHCMError(
                f"{self.options.source} gave no rows ({reasons or 'it lists nothing'}): check --source"
                f"{' and --images' if self.converter.pictures else ''}."
            )
        self._stack.__exit__(kind, error, trace)
        if kind is None:
            self._remove_others()
            self.report.save(self.out)

    def _remove_others(self) -> None:
        """Remove the files of an earlier conversion that this one has none for, and their indices."""
        for split in sorted(self._earlier - set(self._writers)):
            path = self.out / f"{split}.tsv"
            if path.is_file():
                path.unlink()
                index_path(path).unlink(missing_ok=True)
                self.report.note(f"{path.name} of the earlier conversion is removed: the source has no such split now")


def run(converter: Converter, options: Options) -> tuple[Report, list[Path]]:
    """Convert; gives the report and the files written. RefHCMError where nothing can be made of the source."""
    with Job(converter, options) as job:
        converter.convert(job)
    return job.report, job.files


def earlier_splits(out: Path, dataset: str) -> set[str]:
    """The splits that an earlier conversion of a dataset wrote to a folder, as its report says; none where there is no
    report. RefHCMError where the report is of another dataset, or of something else than a conversion.
    """
    path = out / REPORT_FILE
    if not path.exists():
        return set()
    found = read_json(path, dict, MAX_REPORT_BYTES)
    written = found.get("written")
    if not isinstance(written, dict) or not isinstance(found.get("dataset"), str):
        raise RefHCMError(f"{path} is the report of no conversion and would be overwritten: name another --out.")
    if found["dataset"] != dataset:
        raise RefHCMError(f"{out} holds what was converted of {found['dataset']}: name another --out for {dataset}.")
    return {split for split in written if split.isidentifier()}


# -- what a source says --------------------------------------------------------------------------------------
def need(entry: Any, name: str, *kinds: type) -> Any:
    """`entry[name]`, which must be there and of one of these types (True and False are no numbers); otherwise Skip."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise Skip(f"{name} is missing or of the wrong type")
    return value


def optional(entry: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """As `need`, but None where the entry has no such name."""
    return None if entry.get(name) is None else need(entry, name, *kinds)


def person_box(xywh: Any, size: tuple[int, int]) -> Box:
    """x1, y1, x2, y2 of COCO's x, y, width, height (all continuous: nothing is added or taken off), cut at the edges of
    a picture of `size` (width, height). Skip without 4 numbers, and where nothing is left.
    """
    if not isinstance(xywh, list) or len(xywh) != 4 or not all(_is_number(value) for value in xywh):
        raise Skip("the box is not 4 numbers")
    x, y, width, height = map(float, xywh)
    return clipped_box((x, y, x + width, y + height), size)


def clipped_box(box: Box, size: tuple[int, int]) -> Box:
    """A box cut at the edges of a picture of `size`; Skip where it has no width or height, before or after."""
    if box[2] <= box[0] or box[3] <= box[1]:
        raise Skip("the box has no width or height")
    x1, y1, x2, y2 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(size[0])), min(box[3], float(size[1]))
    if round(x2 - x1, 2) <= 0 or round(y2 - y1, 2) <= 0:  # rows hold hundredths of a pixel
        raise Skip("the box lies outside the picture")
    return x1, y1, x2, y2


def check_places(box: Box, points: np.ndarray | None, mask: str | None, size: tuple[int, int]) -> None:
    """Skip where a labelled keypoint lies outside a picture of `size` (width, height) by more than `EDGE`, or the whole
    mask outside the box: what `refhcm validate` would find wrong with the row. A keypoint may lie outside the box.
    """
    if points is not None:
        places = points[points[:, 2] > 0, :2]
        if (places < -EDGE).any() or (places > np.array(size) + EDGE).any():
            raise Skip("a labelled keypoint lies outside the picture")
    covered = None if mask is None else mask_extent(mask, size)
    if covered is not None and apart(box, covered):
        raise Skip("the mask lies outside the box")


def keypoints_of(values: Any) -> np.ndarray:
    """float (17, 3) of COCO's 51 numbers x, y, v (v: 0 unlabelled, 1 hidden, 2 seen). Skip for anything else."""
    count = len(KEYPOINT_NAMES)
    if not isinstance(values, list) or len(values) != 3 * count or not all(_is_number(value) for value in values):
        raise Skip(f"the keypoints are not {3 * count} numbers")
    points = np.array(values, float).reshape(count, 3)
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        raise Skip("a keypoint's visibility is not 0, 1 or 2")
    return points


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False
