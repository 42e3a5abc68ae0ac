"""Score a model on dataset files: ask one task about every row, keep the answers, and compute the figures from them.

choosing     which rows a task is asked about        answering    a batch of questions answered
survey       a look at them beforehand               predictions  an answer as a line of JSON
pixels       what is counted beside the answers      presence     whether anybody fits
scoring      lines -> figures                        prediction_files  lines in a folder, and going on there
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.annotation import Annotation
from ..data.dataset import ReferringDataset, SampleDataset
from ..data.faults import FaultTally
from ..data.prompts import MARKED
from ..data.samples import Batch, collate
from ..errors import RefHCMError
from ..models.abilities import Presence
from ..tasks import Reading
from ..tasks.mask import MaskSegment
from .answering import ModelError, answer_batch
from .choosing import EACH, check_model, check_tasks, choose, deciding_by, each_of
from .pixels import Pixels, mask_pixels, part_pixels
from .prediction_files import Done, Folder, Memory, Store
from .predictions import Line, to_line
from .predictor import RefHCMPredictor
from .ranks import Ranks
from .scoring import Evaluation, Rules, score
from .shapes import choose_paste
from .survey import fingerprint, survey


class Stopped(KeyboardInterrupt):
    """An evaluation that was asked to stop; the message says how to go on."""


def evaluate(
    predictor: RefHCMPredictor,
    path: str | Path,
    kind: str,
    task_name: str,
    *,
    beam: int = 1,
    batch_size: int = 16,
    limit: int | None = None,
    workers: int = 0,
    published_reading: bool = False,
    protocol: str = "own",
    each: Sequence[str] = (),
    way: str | None = None,
    java: bool = True,
    thorough: bool = False,
    progress: bool = True,
    out: str | Path | None = None,
    ranks: Ranks | None = None,
) -> Evaluation:
    """Ask one task about every row of a dataset file and score the answers at the pictures' own resolution.

    Args:
        path: A TSV in the layout `kind` (see `data.dataset.LAYOUTS`).
        task_name: One of `fitting_tasks(kind)`.
        limit: Take only so many rows (see `choose_rows`).
        workers: Processes that read pictures ahead; 0: this one reads them.
        published_reading: Take the likeliest bin and code at each place and put part maps back into pictures with
            stepped outlines, as the published evaluation does, to compare with its figures.
        protocol: One of `PROTOCOLS`.
        each: What is asked about everyone whom an answer names (see `EACH`), of tasks about any number of people.
        way: How every question is put, one of `prompts.WAYS`, whatever the row asks by; None: as the row asks.
        java: Compute METEOR and SPICE of captions where there is a Java.
        thorough: Decode all pictures before the first question (see `survey`).
        out: Folder for the answers, one file per task; what is there of the same evaluation is not asked again.
        ranks: The processes that share the work; each calls this, and each gets the result.

    Rows that do not know enough are left out, and counted in the result. Raises RefHCMError where the layout does not
    know enough for the task, and for rows that cannot be used; `Stopped` when it is interrupted.
    """
    check_tasks(kind, [task_name], protocol, each, way)
    each = each_of(task_name, each)
    check_model(predictor, [task_name], protocol, each, way)
    presence = deciding_by(predictor.presence, task_name, protocol)
    ranks, rules = ranks or Ranks(), Rules(protocol, each, presence, way)
    needs = predictor.task(task_name).needs
    masks = protocol == "uniphd" or way in MARKED or "mask" in (*needs, *each)
    rows = ReferringDataset(path, kind, parts="codes" in needs or kind == "person", masks=masks)
    chosen = choose(rows, task_name, limit, protocol, predictor.abilities.point_prompts, way)
    asking = _Asking(predictor, rows, task_name, chosen.rows, beam, published_reading, presence, each, way)
    store: Store = Memory(ranks) if out is None else Folder(out, task_name, ranks)

    data = ranks.first(lambda: survey(rows, chosen.rows, thorough=thorough, progress=progress))
    model = ranks.first(lambda: fingerprint(predictor)) if out is not None else ""
    settings = {"model": model, "data": data, "kind": kind, "limit": limit, **rules.to_settings(), **asking.settings()}
    about = {"left_out": chosen.left_out, "batch_size": batch_size, "processes": ranks.world, **asking.about()}
    done = store.begin(settings, about)
    batches = _batches(chosen.rows, batch_size, ranks, done)
    ranks.together(lambda: asking.run(store, done, batches, workers, progress and ranks.leads), (ModelError,))
    lines = store.finish()
    segments = about["segments"]
    result = ranks.first(lambda: score(task_name, segments, _complete(lines, chosen.rows, out), rules, java))
    result.left_out = chosen.left_out
    return result


def _batches(rows: Sequence[int], size: int, ranks: Ranks, done: Mapping[int, object]) -> list[list[int]]:
    """Places in `rows` that this process asks about, a batch each.

    Which questions share a batch depends on the batch size alone, and neither on the number of processes nor on where
    an earlier evaluation was cut off: the last bits of an answer may depend on its batch.
    """
    places = [list(range(start, min(start + size, len(rows)))) for start in range(0, len(rows), size)]
    left = [batch for batch in places if any(rows[place] not in done for place in batch)]
    return left[ranks.rank :: ranks.world]


def _complete(lines: list[Line], rows: Sequence[int], out: str | Path | None) -> list[Line]:
    if [line["row"] for line in lines] != list(rows):
        raise RefHCMError(
            f"{out} holds answers to {len(lines):,} questions where {len(rows):,} were asked: with several machines it "
            "must be one folder that all of them share."
        )
    return lines


class _Asking:
    """The part of an evaluation that needs the model: questions in, lines out."""

    def __init__(
        self, predictor: RefHCMPredictor, rows: ReferringDataset, task_name: str, chosen: list[int], beam: int,
        published_reading: bool, presence: Presence, each: Sequence[str] = (), way: str | None = None,
    ) -> None:  # fmt: skip
        self.predictor, self.rows, self.chosen, self.beam = predictor, rows, chosen, beam
        self.task = predictor.task(task_name)
        self.label_map = predictor.label_map if "codes" in self.task.needs else None
        self.masks = predictor.masks if "mask" in (*self.task.needs, *each) else None
        self.published_reading, self.presence, self.way = published_reading, presence, way
        self.each = [predictor.task(EACH[wanted]) for wanted in each]

    def settings(self) -> dict[str, Any]:
        """What answers depend on beside the model and the rows."""
        precision = str(self.predictor.dtype).removeprefix("torch.")
        return {"beam": self.beam, "dtype": precision, "published_reading": self.published_reading}

    def about(self) -> dict[str, Any]:
        """What is to be known about the answers: what they consist of, for scoring, and where they were made."""
        return {
            "segments": [segment.name for segment in self.task.scored()], "questions": len(self.chosen),
            "file": str(self.rows.file.path), "device": self.predictor.device.type, "torch": torch.__version__,
        }  # fmt: skip

    def run(self, store: Store, done: Done, batches: list[list[int]], workers: int, progress: bool) -> None:
        """Ask what is in the batches, and keep what is not done."""
        tally = FaultTally({str(self.rows.file.path): len(self.rows)}, share=0.0)
        running, answered = _Running(done.values()), len(done)
        left = sum(self.chosen[place] not in done for places in batches for place in places)
        bar = tqdm(
            desc=self.task.name, total=answered + left, initial=answered, unit=" questions", disable=not progress,
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )  # fmt: skip
        try:
            with bar:
                for places, batch in zip(batches, self._load(batches, workers), strict=True):
                    tally.add(batch.get("faults", ()))
                    lines = [line for line in self._answer(places, batch) if line["row"] not in done]
                    store.add(lines)
                    answered += len(lines)
                    running.add(line["figures"] for line in lines)
                    bar.set_postfix_str(running.text(), refresh=False)
                    bar.update(len(lines))
        except KeyboardInterrupt as error:
            raise Stopped(_stopped(store, self.task.name, answered, len(self.chosen))) from error

    def _load(self, batches: list[list[int]], workers: int) -> DataLoader[Batch]:
        config = self.predictor.model.config
        data = SampleDataset(
            self.rows, [self.task], config.image_size, mean=config.image_mean, std=config.image_std, set_aside=True,
            targets=False, chosen=self.chosen, way=self.way,
        )  # fmt: skip
        return DataLoader(data, batch_sampler=batches, collate_fn=collate, num_workers=workers)

    def _answer(self, places: list[int], batch: Batch) -> Iterator[Line]:
        readings = answer_batch(
            self.predictor.model, self.task, batch, beam=self.beam, label_map=self.label_map, masks=self.masks,
            published_reading=self.published_reading, presence=self.presence, each=self.each,
        )  # fmt: skip
        truth = list(map(self.task.answered, batch["questions"], batch["annotations"]))
        rows = zip(places, batch["questions"], readings, truth, self._pixels(readings, truth), strict=True)
        for place, question, reading, annotation, pixels in rows:
            names = {**self._names(self.chosen[place]), "task": self.task.name}
            yield to_line(names, self.task.asked(question), reading, annotation, pixels)

    def _pixels(self, readings: list[Reading], truth: list[Annotation]) -> list[Pixels]:
        """Everything that is counted of each answer."""
        pixels: list[Pixels] = [{} for _ in truth]
        further = []
        if self.label_map is not None:
            further.append(part_pixels(self.label_map, readings, truth, choose_paste(self.published_reading)))
        for segment in self.task.scored():
            if self.masks is not None and isinstance(segment, MaskSegment):
                further.append(mask_pixels(self.masks, segment, readings, truth))
        for found in further:
            for counts, more in zip(pixels, found, strict=True):
                counts |= more
        return pixels

    def _names(self, row: int) -> dict[str, Any]:
        wanted = [name for name in ("id", "image_id") if name in self.rows.file.columns]
        return {"row": row, **self.rows.file.head(row, wanted)}


class _Running:
    """Means of the rows' own figures, for the progress bar."""

    def __init__(self, figures: Any) -> None:
        self._sums: dict[str, tuple[float, int]] = {}
        self.add(figures)

    def add(self, figures: Any) -> None:
        """The figures of further rows."""
        for entry in figures:
            for name, value in entry.items():
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = total + value, count + 1

    def text(self) -> str:
        """Each mean with three digits."""
        return ", ".join(f"{name} {total / count:.3f}" for name, (total, count) in self._sums.items())


def _stopped(store: Store, task: str, answered: int, asked: int) -> str:
    if isinstance(store, Folder):
        kept = f"answers are in {store.folder}; the same command goes on from there."
        return f"stopped: {answered:,} of {asked:,} {task} {kept}" if store.ranks.world == 1 else f"stopped: {kept}"
    return f"stopped after {answered:,} of {asked:,} {task} answers, which are lost: --out FOLDER would have kept them."
