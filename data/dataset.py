"""Dataset files in the published and our own TSV layouts: rows -> questions with right answers -> samples, one task or
many mixed.

    ReferringDataset   row -> (Question, Annotation, picture)
    SampleDataset      row or picture -> list of samples (one per task)
    MultiTaskDataset   several of those as one stream, in a fixed order that depends on seed and epoch only

A row that cannot be used raises BadRow, which names the file and the line. Training sets such rows aside instead: an
item then holds the BadRow in place of the row's samples, and nothing takes the place of either (see `faults`).
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..errors import RefHCMError
from .annotation import Annotation, Question
from .fields import decode_base64, is_path
from .images import normalise, open_sized, squash
from .person_file import COLUMNS
from .rows import LAYOUTS, OWN, Known, Reading, read_pair
from .samples import Item, Sample, build_sample
from .transforms import Augmentation, Pair, jitter
from .tsv import BadRow, TsvFile

if TYPE_CHECKING:
    from ..tasks.task import Task

__all__ = ["LAYOUTS", "MultiTaskDataset", "ReferringDataset", "SampleDataset"]

_EARLIER_COLUMNS = 9
"""How many our own files had before they knew masks and areas."""
logger = logging.getLogger(__name__)


class ReferringDataset:
    """Rows of one dataset file: `dataset[i]` is (Question, Annotation, RGB picture).

    `kind` names one of `LAYOUTS`; `columns` (field -> column) describes any other arrangement of the same
    fields. The picture column holds base64 of a picture file (either alphabet), or a path below `root`
    (default: the folder of the file, then its `annos/`); the part map column a path of a `.npy` (integers) or
    `.png` (grey or palette), read only with `parts`, as masks are only with `masks`. Published subfolders `imgs/` and
    `gts/` are looked into as well. The text `None` means that the box itself is the prompt. `scoring` prepares captions
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
        if columns is None and kind not in LAYOUTS:
            raise RefHCMError(
                f"Unknown kind of dataset {kind!r}: it is one of {', '.join(LAYOUTS)}, or give columns."
            )
        self.kind = kind
        self.file = TsvFile(path, columns or LAYOUTS[kind])
        if kind == OWN and columns is None and len(self.file) and self.file.count(0) == _EARLIER_COLUMNS:
            raise RefHCMError(
                f"{path} has the {_EARLIER_COLUMNS} columns of an earlier layout where {len(COLUMNS)} are expected: "
                "make it again, or name its columns, with the picture in column 8 (from 0)."
            )
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
            try:
                image, size = self._picture(next(iter(fields.values()))["image"])
            except RefHCMError as error:
                found += [self.file.bad(row, str(error)) for row in fields]
        if image is not None:
            reading = Reading(self.kind == OWN, self.find_parts, self._parts, self._masks, self._scoring)
            for row, said in fields.items():
                try:
                    pairs[row] = read_pair(said, size, reading)
                except ValueError as error:
                    found.append(self.file.bad(row, str(error)))
        if bad is None and found:
            raise found[0]
        if bad is not None:
            bad += found
        return pairs, image if pairs else None

    def name(self, row: int) -> str:
        """The id of a row, for reports and results."""
        return self.file.head(row, ["id"])["id"]

    def picture_key(self, row: int) -> str:
        """What is equal for rows of the same picture and for no others: its id or path, or a checksum of
        base64. A row that cannot be read has a key of its own."""
        names = [name for name in ("image_id", "image") if name in self.file.columns]
        try:
            value = self.file.head(row, names[:1])[names[0]]
        except BadRow as error:
            return str(error)
        if names[0] == "image" and not is_path(value):
            # A file's ends hold its tables and last pixels; reading all of a large file would take minutes.
            value = f"{len(value)}-{zlib.crc32((value[:2048] + value[-2048:]).encode())}"
        return f"{self.file.path}:{value}"

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

    def usable(self, needs: Sequence[str]) -> np.ndarray:
        """int64 numbers of the rows that know these fields (names of columns; `text`: words, not a region alone) about
        exactly one person. Rows that cannot be read are among them, to be met and counted by who uses them.
        """
        lacking = self.shortfall(needs).values()
        left = np.ones(len(self), bool)
        for rows in lacking:
            left &= ~rows
        return np.flatnonzero(left)

    def shortfall(self, needs: Sequence[str]) -> dict[str, np.ndarray]:
        """Why the other rows are not usable: reason -> bool (rows), each row under its first reason."""
        return self._known.lacking(tuple(needs))

    def find_picture(self, value: str) -> Path:
        """The picture that a row names by path; RefHCMError where there is none, or it lies outside the folder."""
        return self._find(value, "imgs")

    def find_parts(self, value: str) -> Path:
        """As `find_picture`, for a part map."""
        return self._find(value, "gts")

    @cached_property
    def _known(self) -> Known:
        return Known(self.file, self.kind)

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

    def _picture(self, value: str) -> tuple[Image.Image, tuple[int, int]]:
        source = self.find_picture(value) if is_path(value) else decode_base64(value)
        return open_sized(source, orient=False, draft=self.draft)

    def _find(self, relative: str, subfolder: str) -> Path:
        """The file that a row names, inside one of the roots and nowhere else."""
        path = Path(relative)
        if path.is_absolute() or ".." in path.parts:
            raise RefHCMError(f"the path {relative} leaves the dataset's folder.")
        for root in self.roots:
            for candidate in (root / subfolder / path, root / path):
                if candidate.is_file():
                    return candidate
        raise RefHCMError(f"there is no file {relative} in {' or '.join(map(str, self.roots))}.")


class SampleDataset(Dataset):
    """Items are lists of samples: one per task, for a row or for up to `grouped` rows of one picture.

    Each row serves those of the tasks that it knows enough for; rows that serve none are left out (`left_out` says how
    many and why, and a log line does). `chosen` restricts the rows further. `one_task` picks one task per row at random
    instead of all. What is random depends on (seed, epoch, index) only, so a run can be repeated and resumed and
    workers need no state; `set_epoch` is fairseq's. `augment` changes picture and labels together. A row that cannot be
    used raises BadRow, or with `set_aside` stands in the item as that BadRow. With the chance `by_region` the words of
    a person whose region is known as well are left out.
    `fast`: see `images.squash`; `mean` and `std`: see `images.to_tensor`. Without `targets` samples hold questions
    only, for evaluation, where rows need not know everything that training would.
    """

    def __init__(
        self,
        rows: ReferringDataset,
        tasks: Sequence[Task],
        image_size: int,
        *,
        grouped: int = 1,
        one_task: bool = False,
        augment: Augmentation | None = None,
        fast: bool = False,
        seed: int = 1,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        set_aside: bool = False,
        targets: bool = True,
        by_region: float = 0.0,
        chosen: Sequence[int] | None = None,
    ) -> None:
        if not len(rows):
            raise RefHCMError(f"{rows.file.path} has no rows.")
        self.rows, self.tasks, self.image_size = rows, list(tasks), image_size
        self.one_task, self.fast, self.seed = one_task, fast, seed
        self.augment = augment if augment is not None and augment.active else None
        self.mean, self.std = mean, std
        self.targets, self.by_region, self.set_aside = targets, by_region, set_aside
        self.left_out: dict[str, dict[str, int]] = {}
        self._serves = self._fitting()
        used = np.flatnonzero(self._serves.any(axis=1))
        if chosen is not None:
            used = np.intersect1d(used, np.asarray(chosen, np.int64))
        self.items = rows.groups(grouped, used) if grouped > 1 else used[:, None]
        self.epoch = 0
        # The codes of a part map belong to one orientation of the person.
        self._flippable = not any("codes" in task.needs for task in self.tasks)
        self._draws = f"{seed}:{'+'.join(task.name for task in self.tasks)}"

    def __len__(self) -> int:
        return len(self.items)

    def set_epoch(self, epoch: int) -> None:
        """Start another epoch: other augmentations, other choices of tasks."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> Item:
        random = np.random.default_rng((self.seed, self.epoch, index))
        rows = [int(row) for row in self.items[index]]
        item: Item = []
        bad: list[BadRow] | None = [] if self.set_aside else None
        pairs, image = self.rows.load(rows, bad)
        if image is not None:
            tensor, key, pairs = self._look(pairs, image, random, index)
            for row, pair in pairs.items():
                try:
                    item += self._samples(row, pair, tensor, key, random)
                except BadRow as error:
                    if bad is None:
                        raise
                    bad.append(error)
        return item + (bad or [])

    def _look(
        self, pairs: dict[int, Pair], image: Image.Image, random: np.random.Generator, index: int
    ) -> tuple[torch.Tensor, str, dict[int, Pair]]:
        """The picture as the model sees it, the key of this view of it, and what is asked and answered in it."""
        key = self.rows.picture_key(next(iter(pairs)))
        if self.augment is not None:
            changed, image = self.augment(list(pairs.values()), image, random, flippable=self._flippable)
            pairs = dict(zip(pairs, changed, strict=True))
            key = f"{key}:{self._draws}:{self.epoch}:{index}"  # another draw is another picture
        image = squash(image, self.image_size, self.fast)
        if self.augment is not None:
            image = jitter(image, random, self.augment.colour)
        return normalise(image, self.mean, self.std), key, pairs

    def _samples(
        self, row: int, pair: Pair, image: torch.Tensor, key: str, random: np.random.Generator
    ) -> list[Sample]:
        question, annotation = pair
        tasks = [task for task, fits in zip(self.tasks, self._serves[row], strict=True) if fits]
        if self.one_task:
            tasks = [tasks[random.integers(len(tasks))]]
        if self.by_region and question.region is not None and random.random() < self.by_region:
            question = replace(question, text=None)
        try:
            name = self.rows.name(row)
            return [build_sample(task, question, annotation, image, key, name, self.targets) for task in tasks]
        except BadRow:
            raise
        except ValueError as error:
            raise self.rows.file.bad(row, str(error)) from error

    def _fitting(self) -> np.ndarray:
        """bool (rows, tasks): which tasks each row knows enough for. RefHCMError for a task that no row serves."""
        serves = np.ones((len(self.rows), len(self.tasks)), bool)
        if not self.targets:
            return serves
        path = self.rows.file.path
        for number, task in enumerate(self.tasks):
            reasons = self.rows.shortfall([*(["text"] if task.by_words else []), *task.needs])
            for lacking in reasons.values():
                serves[lacking, number] = False
            told = {reason: int(lacking.sum()) for reason, lacking in reasons.items()}
            why = ", ".join(f"{count:,} {reason}" for reason, count in told.items())
            if not serves[:, number].any():
                raise RefHCMError(f"No row of {path} can serve task {task.name}: {why}.")
            if told and task.name not in self.left_out:
                self.left_out[task.name] = told
                used = int(serves[:, number].sum())
                logger.info("%s: task %s uses %s of %s rows; %s", path, task.name, used, len(self.rows), why)
        return serves


class MultiTaskDataset(Dataset):
    """Streams of samples as one dataset, each taken as often as its weight says.

    `streams` are (dataset, weight) pairs. An epoch has `length` items (default: as many as the datasets have
    together); which item comes from which stream, and which of its items it is, depends on seed and epoch
    only. Every stream runs through all of its items in a shuffled order before one comes again, across
    epochs. With `joint` an item holds one item of every stream (the published multi-task training), and
    weights are not used.
    """

    def __init__(
        self,
        streams: Sequence[tuple[SampleDataset, float]],
        *,
        length: int | None = None,
        joint: bool = False,
        seed: int = 1,
    ) -> None:
        weights = np.array([weight for _, weight in streams], np.float64)
        if not len(weights) or weights.min() <= 0 or not np.isfinite(weights).all():
            raise RefHCMError("A mix of tasks needs at least one dataset, and weights above zero.")
        self.streams = [stream for stream, _ in streams]
        self.joint, self.seed = joint, seed
        sizes = [len(stream) for stream in self.streams]
        self.length = length or (max(sizes) if joint else sum(sizes))
        self.counts = [self.length] * len(sizes) if joint else _shares(weights, self.length)
        self.set_epoch(0)

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Lay out another epoch."""
        self.epoch = epoch
        owners = np.repeat(np.arange(len(self.streams)), self.counts)
        np.random.default_rng((self.seed, epoch)).shuffle(owners)
        self._owner = owners
        self._places = [self._order(stream, epoch) for stream in range(len(self.streams))]
        nth = np.empty(len(owners), np.int64)
        for stream in range(len(self.streams)):
            mine = owners == stream
            nth[mine] = np.arange(mine.sum())
        self._nth = nth
        for dataset in self.streams:
            dataset.set_epoch(epoch)

    def __getitem__(self, index: int) -> Item:
        if self.joint:
            chosen = [(stream, index) for stream in range(len(self.streams))]
        else:
            chosen = [(int(self._owner[index]), int(self._nth[index]))]
        return [
            sample for stream, n in chosen for sample in self.streams[stream][int(self._places[stream][n])]
        ]

    def _order(self, stream: int, epoch: int) -> np.ndarray:
        """Which items a stream gives in an epoch: a stretch of its endless row of shuffled passes."""
        count, size = self.counts[stream], len(self.streams[stream])
        first = epoch * count
        passes = range(first // size, (first + count - 1) // size + 1) if count else range(0)
        row = [np.random.default_rng((self.seed, stream, number)).permutation(size) for number in passes]
        begin = first % size
        return np.concatenate(row)[begin : begin + count] if row else np.empty(0, np.int64)


def _shares(weights: np.ndarray, length: int) -> list[int]:
    """Split `length` in proportion to `weights`: largest remainders."""
    exact = weights / weights.sum() * length
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: length - counts.sum()]] += 1
    return counts.tolist()
