"""Validation by answers: rows of each task are answered by decoding and scored by the task's own scorer.

The loss says how likely the right tokens are after right tokens; only an answer says whether the box is in its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import ConcatDataset, DataLoader

from ..data.annotation import Annotation
from ..data.dataset import ReferringDataset, SampleDataset
from ..data.faults import FaultTally
from ..data.row_file import BadRow
from ..data.samples import Batch, collate
from ..inference.answering import answer_batch
from ..inference.page import Entry, resize
from ..inference.protocols import PresenceScorer
from ..models.config import ModelConfig
from ..models.label_map import LabelMapTokenizer
from ..models.refhcm import RefHCM
from ..tasks import Reading, Task
from ..tasks.task import Scorer

_Found = TypeVar("_Found")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Questions:
    """The rows that a task is asked about, the same at every validation."""

    task: Task
    files: tuple[tuple[ReferringDataset, tuple[int, ...]], ...]

    def spread(self, count: int, shift: float = 0.0) -> Questions:
        """At most `count` of the rows, evenly spread; `shift`, in [0, 1), moves them by so much of their distance."""
        rows = [(number, row) for number, (_, rows) in enumerate(self.files) for row in rows]
        count = min(count, len(rows))
        kept = [rows[int((place + shift) * len(rows) / count)] for place in range(count)]
        files = ((file, tuple(row for n, row in kept if n == number)) for number, (file, _) in enumerate(self.files))
        return Questions(self.task, tuple((file, rows) for file, rows in files if rows))

    def samples(self, network: ModelConfig) -> ConcatDataset:
        """Items as `SampleDataset` gives them, without targets."""
        options: dict[str, Any] = {"mean": network.image_mean, "std": network.image_std, "targets": False}
        return ConcatDataset([
            SampleDataset(file, [self.task], network.image_size, chosen=rows, set_aside=True, **options)
            for file, rows in self.files
        ])  # fmt: skip


def choose_questions(streams: Iterable[SampleDataset], count: int, parts: bool) -> list[Questions]:
    """For every task of a validation set, `count` of the rows (or all) that know what it is scored by, evenly spread.

    `streams` are the files with the tasks that are asked about them; part maps are scored with `parts`, by their codes
    otherwise. What cannot be scored is said in the log.
    """
    tasks: dict[str, Task] = {}
    files: dict[str, list[tuple[ReferringDataset, tuple[int, ...]]]] = {}
    for stream in streams:
        for task in stream.tasks:
            tasks[task.name] = task
            by_map = parts and "codes" in task.needs
            rows = stream.rows.with_parts(by_map)
            needs = task.scored_by("parts" if by_map else "codes")
            silent = [need for need in needs if need != "text"]
            usable = rows.usable(needs, task.about, stream.points)
            if not len(usable) and not task.by_words and len(usable := rows.usable(silent, task.about, stream.points)):
                logger.info("%s: no row has words, so task %s is asked by region", rows.file.path, task.name)
            if not len(usable):
                told = f"{rows.file.path}: no row about {task.about} knows {needs}, so task {task.name} is not scored"
                logger.info(told)
                continue
            files.setdefault(task.name, []).append((rows, tuple(usable.tolist())))
    chosen = []
    for name, found in files.items():
        shares = [count // len(found) + (n < count % len(found)) for n in range(len(found))]
        thinned = [Questions(tasks[name], (file,)).spread(share) for file, share in zip(found, shares, strict=True)]
        chosen.append(Questions(tasks[name], tuple(file for questions in thinned for file in questions.files)))
    return chosen


class Answerer:
    """Answers the same rows at every validation; each process takes a stretch of their batches."""

    def __init__(
        self, questions: Sequence[Questions], network: ModelConfig, label_map: LabelMapTokenizer | None,
        tally: FaultTally, masks: LabelMapTokenizer | None = None,
    ) -> None:  # fmt: skip
        """label_map, masks: by which answered part maps and masks are scored. Rows that cannot be used are told to
        `tally`."""
        self.questions, self.network, self.label_map, self.tally = list(questions), network, label_map, tally
        self.masks = masks
        self._shown: list[tuple[Task, Batch, list[Any]]] | None = None

    def score(
        self, model: RefHCM, batch_size: int = 16, workers: int = 0, leave: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """Every figure as `TASK/SEGMENT_METRIC`, over the rows of all processes, and how many they were.

        As soon as `leave` says so in any process, all give up, and there is nothing (None).
        """
        figures: dict[str, float] = {}
        for questions in self.questions:
            scorer = self._scorer(questions.task)
            for batch in self._batches(questions, batch_size, workers):
                if leave():
                    break
                readings = self._answer(model, questions.task, batch)
                asked = zip(readings, batch["questions"], batch["annotations"], strict=True)
                for reading, question, truth in asked:
                    given = questions.task.asked(question).region is not None
                    scorer.add(reading, questions.task.answered(question, truth), given)
            gathered = _gather((scorer, leave()))
            if any(left for _, left in gathered):
                return None
            whole = self._scorer(questions.task)
            for theirs, _ in gathered:  # in the order in which one process would have
                whole.merge(theirs)
            figures |= _named(questions.task, whole)
        return figures

    def names(self, task: str | None = None, count: int | None = None) -> list[str]:
        """The names of the figures, by scoring the truth itself; of one task or of all, by at most `count` rows."""
        found: list[str] = []
        for questions in self.questions:
            if task in (None, questions.task.name):
                scorer = self._scorer(questions.task)
                for file, rows in (questions if count is None else questions.spread(count)).files:
                    pairs = (file.load([row], [])[0] for row in rows)
                    for question, annotation in (pair for found_rows in pairs for pair in found_rows.values()):
                        given = questions.task.asked(question).region is not None
                        scorer.add(_perfect(questions.task, annotation), annotation, given)
                found += _named(questions.task, scorer)
        return found

    def show(self, model: RefHCM, count: int) -> list[Entry]:
        """Answers to draw: to `count` of the rows, spread over the tasks, the same at every call."""
        if self._shown is None:
            self._shown = list(self._load_shown(count))
        entries = []
        for task, batch, pictures in self._shown:
            readings = self._answer(model, task, batch)
            rows = zip(pictures, batch["questions"], readings, batch["annotations"], strict=True)
            entries += [Entry(task.name, *row) for row in rows]
        return entries

    def _load_shown(self, count: int) -> Iterator[tuple[Task, Batch, list[Any]]]:
        number = len(self.questions)
        for place, questions in enumerate(self.questions):
            share = count // number + (place < count % number)
            if not share:
                continue
            shown = questions.spread(share, place / number)  # so that not all tasks show the same pictures
            items = shown.samples(self.network)
            samples, pictures = [], []
            for index, (file, row) in enumerate((file, row) for file, rows in shown.files for row in rows):
                item = items[index]
                if not any(isinstance(sample, BadRow) for sample in item):  # named when it is scored
                    samples += item
                    pictures.append(resize(file[row][2]))
            if samples:
                yield questions.task, collate(samples), pictures

    def _batches(self, questions: Questions, batch_size: int, workers: int) -> Iterator[Batch]:
        """This process's stretch of the batches. Which rows make a batch does not depend on the processes."""
        rank, world = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
        samples = questions.samples(self.network)
        starts = range(0, len(samples), batch_size)
        mine = starts[len(starts) * rank // world : len(starts) * (rank + 1) // world]
        batches = [list(range(start, min(start + batch_size, len(samples)))) for start in mine]
        workers = min(workers, len(batches))
        own = torch.Generator()  # a loader draws a number when it starts, which is nobody else's business
        for batch in DataLoader(
            samples, batch_sampler=batches, collate_fn=collate, num_workers=workers, generator=own
        ):
            self.tally.add(batch.pop("faults", []))
            if batch:
                yield batch

    def _answer(self, model: RefHCM, task: Task, batch: Batch) -> list[Reading]:
        for tokenizer in (self.label_map, self.masks):
            if tokenizer is not None:
                tokenizer.to(model.encoder.embed_tokens.weight.device)
        with getattr(model, "_precision", nullcontext)():  # that of the losses
            return answer_batch(model, task, batch, label_map=self.label_map, masks=self.masks)

    def _scorer(self, task: Task) -> Scorer:
        segments: list[Any] = task.scored()
        if "codes" in task.needs:
            without = [segment for segment in segments if segment.name != "parsing" or self.label_map is not None]
            segments = [_Codes(), *without]
        return PresenceScorer(segments) if task.nobody else Scorer(segments)


def _gather(mine: _Found) -> list[_Found]:
    """What each process has, in all of them."""
    if not _distributed():
        return [mine]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    return found


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _named(task: Task, scorer: Scorer) -> dict[str, float]:
    """`box/acc@0.5` of a task as `rec/box_acc@0.5`; one number of answers in place of each segment's."""
    found = scorer.result()
    named = {f"{task.name}/{name.replace('/', '_')}": value for name, value in found.items()}
    counts = [named.pop(name) for name in list(named) if name.endswith("_samples")]
    return {**named, f"{task.name}/answers": max(counts, default=0.0)}


def _perfect(task: Task, truth: Annotation) -> Reading:
    """The answer that a model should give."""
    if task.meant != "one":
        people = (truth,) if truth.people is None else truth.people
        found = tuple(Reading(one.box, 1.0, score=1.0) for one in people)
        return Reading(people=found, present=bool(found), presence=float(bool(found)))
    if truth.people == ():
        return Reading(present=False, presence=0.0)
    keypoints = None
    if truth.keypoints is not None:
        keypoints = np.array(truth.keypoints, np.float32)
        keypoints[:, 2] = keypoints[:, 2] > 0
    caption = truth.captions[0] if truth.captions else None
    return Reading(
        box=truth.box, box_score=1.0, keypoints=keypoints, codes=truth.codes, parts=truth.parts, caption=caption,
        score=1.0, mask=truth.mask, others=truth.others, presence=1.0,
    )


class _Codes:
    """The share of a part map's codes that are right, place by place: what can be said without the tokenizer."""

    name = "codes"

    def meter(self) -> _Share:
        return _Share()

    def score(self, meter: _Share, reading: Reading, annotation: Annotation) -> None:
        if reading.codes is not None and annotation.codes is not None:
            meter.hits += sum(a == b for a, b in zip(reading.codes, annotation.codes, strict=True))
            meter.count += len(annotation.codes)


@dataclass
class _Share:
    hits: int = 0
    count: int = 0

    def merge(self, other: _Share) -> None:
        self.hits, self.count = self.hits + other.hits, self.count + other.count

    def result(self) -> dict[str, float]:
        return {"acc": self.hits / self.count} if self.count else {}
