"""Rows of dataset files -> samples, of one task or of several.

    ReferringDataset   row -> (Question, Annotation, picture)                      (`referring`)
    SampleDataset      row or picture -> list of samples (one per task)
    MultiTaskDataset   several of those as one stream                              (`mixing`)

A row that cannot be used raises BadRow, which names the file and the line. Training sets such rows aside instead: an
item then holds the BadRow in place of the row's samples, and nothing takes the place of either (see `faults`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..errors import RefHCMError
from .images import normalise, squash
from .mixing import MultiTaskDataset
from .prompts import Prompting, put
from .referring import ReferringDataset
from .row_file import BadRow
from .rows import LAYOUTS
from .samples import Item, Sample, build_sample
from .transforms import Augmentation, Pair, jitter

if TYPE_CHECKING:
    from ..tasks.task import Task

__all__ = ["LAYOUTS", "MultiTaskDataset", "ReferringDataset", "SampleDataset"]

logger = logging.getLogger(__name__)


class SampleDataset(Dataset):
    """Items are lists of samples: one per task, for a row or for up to `grouped` rows of one picture.

    Each row serves those of the tasks that it knows enough for; rows that serve none are left out (`left_out` says how
    many and why, and a log line does). A task that no row serves is an error, or with `drop_idle` it is left out with a
    warning while another is served. `chosen` restricts the rows further. `one_task` picks one task per row at random
    instead of all. `augment` changes picture and labels together, `prompting` what is asked with. What is random
    depends on seed, epoch and the (first) row of the item only, so a run can be repeated and resumed, workers need no
    state, and other rows of the file change nothing; `set_epoch` is fairseq's. A row that cannot be used raises BadRow,
    or with `set_aside` stands in the item as that BadRow. `fast`: see `images.squash`; `mean` and `std`: see
    `images.to_tensor`. Without `targets` samples hold questions only, for evaluation, where rows need not know
    everything that training would. With `points`, rows that ask by points serve the tasks about one person. All
    questions about one person are put in the `way` that is given (`prompts.WAYS`).
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
        prompting: Prompting | None = None,
        chosen: Sequence[int] | None = None,
        drop_idle: bool = False,
        points: bool = False,
        way: str | None = None,
    ) -> None:
        if not len(rows):
            raise RefHCMError(f"{rows.file.path} has no rows.")
        self.rows, self.tasks, self.image_size = rows, list(tasks), image_size
        self.one_task, self.fast, self.seed = one_task, fast, seed
        self.augment = augment if augment is not None and augment.active else None
        self.mean, self.std = mean, std
        self.targets, self.prompting, self.set_aside = targets, prompting, set_aside
        self.points, self.way = points, way
        self.left_out: dict[str, dict[str, int]] = {}
        self._serves = self._fitting(drop_idle)
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
        rows = [int(row) for row in self.items[index]]
        random = np.random.default_rng((self.seed, self.epoch, rows[0]))
        item: Item = []
        bad: list[BadRow] | None = [] if self.set_aside else None
        pairs, image = self.rows.load(rows, bad)
        if image is not None:
            tensor, key, pairs = self._look(pairs, image, random, rows[0])
            for row, pair in pairs.items():
                try:
                    item += self._samples(row, pair, tensor, key, random)
                except BadRow as error:
                    if bad is None:
                        raise
                    bad.append(error)
        return item + (bad or [])

    def _look(
        self, pairs: dict[int, Pair], image: Image.Image, random: np.random.Generator, first: int
    ) -> tuple[torch.Tensor, str, dict[int, Pair]]:
        """The picture as the model sees it, the key of this view of it, and what is asked and answered in it."""
        key = self.rows.picture_key(next(iter(pairs)))
        if self.augment is not None:
            changed, image = self.augment(list(pairs.values()), image, random, flippable=self._flippable)
            pairs = dict(zip(pairs, changed, strict=True))
            key = f"{key}:{self._draws}:{self.epoch}:{first}"  # another draw is another picture
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
        name = self.rows.name(row)
        questions = [question] * len(tasks)
        if self.prompting is not None:
            questions = [
                self.prompting.vary(question, annotation, random, task.by_region) if task.meant == "one" else question
                for task in tasks
            ]
        try:
            if self.way is not None:
                questions = [put(self.way, question, annotation, name)] * len(tasks)
            return [
                build_sample(task, asked, annotation, image, key, name, self.targets)
                for task, asked in zip(tasks, questions, strict=True)
            ]
        except BadRow:
            raise
        except ValueError as error:
            raise self.rows.file.bad(row, str(error)) from error

    def _fitting(self, drop_idle: bool) -> np.ndarray:
        """bool (rows, tasks): which tasks each row knows enough for. RefHCMError for a task that no row serves; with
        `drop_idle` only where that is so of all, and `tasks` loses the others."""
        serves = np.ones((len(self.rows), len(self.tasks)), bool)
        if not self.targets:
            return serves
        path = self.rows.file.path
        idle = []
        for number, task in enumerate(self.tasks):
            needs = [*(["text"] if task.by_words else []), *task.needs]
            reasons = self.rows.shortfall(needs, task.about, self.points)
            for lacking in reasons.values():
                serves[lacking, number] = False
            told = {reason: int(lacking.sum()) for reason, lacking in reasons.items()}
            why = ", ".join(f"{count:,} {reason}" for reason, count in told.items())
            if not serves[:, number].any():
                idle.append(f"No row of {path} can serve task {task.name}: {why}.")
            elif told and task.name not in self.left_out:
                self.left_out[task.name] = told
                used = int(serves[:, number].sum())
                logger.info("%s: task %s uses %s of %s rows; %s", path, task.name, used, len(self.rows), why)
        if idle:
            self._leave_out(idle, serves, drop_idle)
        return serves[:, serves.any(axis=0)]

    def _leave_out(self, idle: list[str], serves: np.ndarray, drop_idle: bool) -> None:
        """Tasks that no row serves, with a sentence for each."""
        if not drop_idle:
            raise RefHCMError(f"{idle[0]} Leave that task out, or add rows that know what it needs.")
        told = " ".join(dict.fromkeys(idle))  # a task may be named twice
        if not serves.any():
            raise RefHCMError(
                f"{told} Validate on a file with rows that know what one of the tasks needs, or train with "
                "--disable-validation."
            )
        logger.warning("%s Validation goes without.", told)
        self.tasks = [self.tasks[number] for number in np.flatnonzero(serves.any(axis=0))]
