"""Datasets in the published TSV layouts: rows -> questions with right answers -> samples, one task or many
mixed.

    ReferringDataset   row -> (Question, Annotation, picture)
    SampleDataset      row or picture -> list of samples (one per task)
    MultiTaskDataset   several of those as one stream, in a fixed order that depends on seed and epoch only

A row that cannot be used raises BadRow, which names the file and the line.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from ..errors import RefHCMError
from .annotation import Annotation, Question
from .fields import decode_base64, is_path, load_part_map, read_box, read_codes, read_keypoints
from .images import normalise, open_sized, squash
from .samples import Sample, build_sample
from .text import scoring_captions, training_captions
from .transforms import Augmentation, Pair, jitter
from .tsv import BadRow, TsvFile

if TYPE_CHECKING:
    from ..tasks.task import Task

LAYOUTS: dict[str, dict[str, int]] = {
    "rec": {"id": 0, "image_id": 1, "text": 2, "box": 3, "image": 4},
    "rkpt": {"id": 0, "image_id": 1, "text": 2, "box": 3, "keypoints": 4, "image": 5},
    "rpar": {"id": 0, "text": 1, "box": 2, "codes": 3, "parts": 4, "image": 5},
    "rhrc": {"id": 0, "captions": 1, "box": 2, "image": 3},
    "person": {"id": 0, "image_id": 1, "text": 2, "box": 3, "keypoints": 4, "codes": 5, "parts": 6, "captions": 7,
               "image": 8},
}  # fmt: skip
"""Name of a field -> column (from 0) in the files published with RefHCM, and (`person`) in our own files, where one row
knows everything about a person, so that one file serves every task."""


class ReferringDataset:
    """Rows of one dataset file: `dataset[i]` is (Question, Annotation, RGB picture).

    `kind` names one of `LAYOUTS`; `columns` (field -> column) describes any other arrangement of the same
    fields. The picture column holds base64 of a picture file (either alphabet), or a path below `root`
    (default: the folder of the file, then its `annos/`); the part map column a path of a `.npy` (integers) or
    `.png` (grey or palette), read only with `parts`. Published subfolders `imgs/` and `gts/` are looked into
    as well. The text `None` means that the box itself is the prompt. `scoring` prepares captions as the
    published evaluation does (no punctuation). `draft` lets JPEGs come smaller (see `images.open_sized`);
    coordinates always refer to the full picture. Raises BadRow, naming file and line, for a row that cannot
    be used.
    """

    def __init__(
        self,
        path: str | Path,
        kind: str,
        *,
        columns: Mapping[str, int] | None = None,
        root: str | Path | None = None,
        parts: bool = False,
        scoring: bool = False,
        draft: int = 0,
    ) -> None:
        if columns is None and kind not in LAYOUTS:
            raise RefHCMError(
                f"Unknown kind of dataset {kind!r}: it is one of {', '.join(LAYOUTS)}, or give columns."
            )
        self.kind = kind
        self.file = TsvFile(path, columns or LAYOUTS[kind])
        folder = self.file.path.parent
        self.roots = [Path(root)] if root is not None else [folder, folder / "annos"]
        self.parts, self.scoring, self.draft = parts, scoring, draft

    def __len__(self) -> int:
        return len(self.file)

    def __getitem__(self, row: int) -> tuple[Question, Annotation, Image.Image]:
        pairs, image = self.load([row])
        return *pairs[0], image

    def load(self, rows: Sequence[int]) -> tuple[list[Pair], Image.Image]:
        """Questions with their answers for rows of one picture, and that picture, decoded once."""
        first = self.file[rows[0]]
        try:
            image, size = self._picture(first["image"])
        except RefHCMError as error:
            raise self.file.bad(rows[0], str(error)) from error
        names = [name for name in self.file.columns if name != "image"]
        pairs = []
        for row in rows:
            fields = first if row == rows[0] else self.file.read(row, names)
            try:
                pairs.append(self._pair(fields, size))
            except BadRow:
                raise
            except ValueError as error:
                raise self.file.bad(row, str(error)) from error
        return pairs, image

    def name(self, row: int) -> str:
        """The id of a row, for reports and results."""
        return self.file.read(row, ["id"])["id"]

    def picture_key(self, row: int) -> str:
        """What is equal for rows of the same picture and for no others: its id or path, or a checksum of
        base64."""
        names = [name for name in ("image_id", "image") if name in self.file.columns]
        value = self.file.read(row, names[:1])[names[0]]
        if names[0] == "image" and not is_path(value):
            # A file's ends hold its tables and last pixels; reading all of a large file would take minutes.
            value = f"{len(value)}-{zlib.crc32((value[:2048] + value[-2048:]).encode())}"
        return f"{self.file.path}:{value}"

    def groups(self, limit: int) -> list[list[int]]:
        """Rows of the same picture together, at most `limit` of them, in order of first appearance."""
        open_groups: dict[str, list[int]] = {}
        groups: list[list[int]] = []
        for row in range(len(self)):
            key = self.picture_key(row)
            group = open_groups.get(key)
            if group is None or len(group) >= limit:
                group = open_groups[key] = []
                groups.append(group)
            group.append(row)
        return groups

    # -- reading one row -------------------------------------------------------------------------------------
    def _pair(self, fields: Mapping[str, str], size: tuple[int, int]) -> Pair:
        box = read_box(fields["box"], size)
        text = fields.get("text")
        by_box = text is None or text == "None"
        region = box if by_box or self.kind == "person" else None
        captions = scoring_captions if self.scoring else training_captions
        parts = self.parts and "parts" in fields
        return (
            Question(size, None if by_box else text, region),
            Annotation(
                size,
                box,
                keypoints=read_keypoints(fields["keypoints"]) if "keypoints" in fields else None,
                codes=read_codes(fields["codes"]) if fields.get("codes") else None,
                parts=load_part_map(self._find(fields["parts"], "gts"), size) if parts else None,
                captions=captions(fields["captions"]) if "captions" in fields else (),
            ),
        )

    def _picture(self, value: str) -> tuple[Image.Image, tuple[int, int]]:
        source = self._find(value, "imgs") if is_path(value) else decode_base64(value)
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

    `one_task` picks one task per row at random instead. What is random depends on (seed, epoch, index) only,
    so a run can be repeated and resumed and workers need no state; `set_epoch` is fairseq's. `augment`
    changes picture and labels together. Bad rows are set aside, up to `bad_share` of all items, and their
    place is taken by the next one; beyond that RefHCMError reports them (so 0 is right for evaluation). With the chance
    `by_region` the words of a person whose region is known as well are left out.
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
        bad_share: float = 0.001,
        targets: bool = True,
        by_region: float = 0.0,
    ) -> None:
        if not len(rows):
            raise RefHCMError(f"{rows.file.path} has no rows.")
        self.rows, self.tasks, self.image_size = rows, list(tasks), image_size
        self.augment = augment if augment is not None and augment.active else None
        self.one_task, self.fast, self.seed = one_task, fast, seed
        self.mean, self.std, self.targets, self.by_region = mean, std, targets, by_region
        self.items = rows.groups(grouped) if grouped > 1 else None
        self.epoch = 0
        self.allowed = int(bad_share * len(self))
        self.set_aside: dict[int, str] = {}
        # The codes of a part map belong to one orientation of the person.
        self._flippable = not any("codes" in task.needs for task in self.tasks)
        self._draws = f"{seed}:{'+'.join(task.name for task in self.tasks)}"

    def __len__(self) -> int:
        return len(self.rows) if self.items is None else len(self.items)

    def set_epoch(self, epoch: int) -> None:
        """Start another epoch: other augmentations, other choices of tasks."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> list[Sample]:
        for item in range(index, index + len(self)):
            try:
                return self._samples(item % len(self), index)
            except BadRow as error:
                self._put_aside(item % len(self), str(error))
        raise RefHCMError(f"{self.rows.file.path} has no usable row.")

    def _samples(self, item: int, index: int) -> list[Sample]:
        random = np.random.default_rng((self.seed, self.epoch, index))
        rows = [item] if self.items is None else self.items[item]
        pairs, image = self.rows.load(rows)
        key = self.rows.picture_key(rows[0])
        if self.augment is not None:
            pairs, image = self.augment(pairs, image, random, flippable=self._flippable)
            key = f"{key}:{self._draws}:{self.epoch}:{index}"  # another draw is another picture
        image = squash(image, self.image_size, self.fast)
        if self.augment is not None:
            image = jitter(image, random, self.augment.colour)
        tensor = normalise(image, self.mean, self.std)
        samples = []
        for row, (question, annotation) in zip(rows, pairs, strict=True):
            tasks = [self.tasks[random.integers(len(self.tasks))]] if self.one_task else self.tasks
            if self.by_region and question.region is not None and random.random() < self.by_region:
                question = replace(question, text=None)
            for task in tasks:
                try:
                    name = self.rows.name(row)
                    samples.append(build_sample(task, question, annotation, tensor, key, name, self.targets))
                except ValueError as error:
                    raise self.rows.file.bad(row, str(error)) from error
        return samples

    def _put_aside(self, item: int, why: str) -> None:
        self.set_aside[item] = why
        if len(self.set_aside) > self.allowed:
            reasons = "\n".join(list(self.set_aside.values())[:20])
            raise RefHCMError(
                f"{len(self.set_aside)} of {len(self)} items of {self.rows.file.path} cannot be used, more "
                f"than the {self.allowed} that may be set aside; mend or remove these rows:\n{reasons}"
            )


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

    def __getitem__(self, index: int) -> list[Sample]:
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
