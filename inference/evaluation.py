"""Score a model on dataset files: every task by its own metric, and the tokenizer's ceiling beside the part maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.annotation import PART_NAMES, Annotation
from ..data.dataset import LAYOUTS, ReferringDataset, SampleDataset
from ..data.faults import FaultTally
from ..data.rows import OWN
from ..data.samples import Batch, collate
from ..errors import RefHCMError
from ..metrics.parsing import ParsingMeter
from ..models.decoding import generate
from ..models.label_map import LabelMapTokenizer
from ..models.label_map_data import classes_only
from ..models.label_map_paste import crop_part_map, paste_labels, paste_logits
from ..tasks import Reading, Task, known
from ..tasks.rec import Rec
from ..tasks.segments import N_CODES
from ..tasks.task import Scorer
from .parts import part_logits
from .predictor import RefHCMPredictor

TASKS = known()
"""What can be scored."""
Paste = Callable[[torch.Tensor, Sequence[float], tuple[int, int]], np.ndarray]
"""From class logits [classes, h, w] of a crop, its box and the picture's (height, width) to a part map."""


@dataclass
class Evaluation:
    """Scores of one task on one file."""

    task: str
    samples: int = 0
    invalid: int = 0
    """Answers that are not well-formed; the grammar should leave none."""
    scores: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    """Why rows of the file were not asked about, and how many."""


def fitting_tasks(kind: str) -> list[str]:
    """Names of the tasks that files in the layout `kind` know enough to ask and to score."""
    return [name for name in TASKS if not _lacking(kind, name)]


def check_tasks(kind: str, names: Sequence[str]) -> None:
    """Raise RefHCMError for an unknown layout or task, and for a task about which the layout does not know enough."""
    for name in names:
        if lacking := _lacking(kind, name):
            raise RefHCMError(
                f"Task {name} needs {' and '.join(lacking)}, which files of the kind {kind} do not hold: "
                f"ask for {', '.join(fitting_tasks(kind))}, or give a file of another kind."
            )


def _lacking(kind: str, name: str) -> list[str]:
    if kind not in LAYOUTS:
        raise RefHCMError(f"Unknown kind of dataset {kind!r}: it is one of {', '.join(LAYOUTS)}.")
    if name not in TASKS:
        raise RefHCMError(f"Unknown task {name!r}: the tasks are {', '.join(TASKS)}.")
    return [field for field in _needs(name) if field not in LAYOUTS[kind]]


def _needs(name: str) -> list[str]:
    task = TASKS[name]
    # Codes are scored as the part map that they stand for.
    wanted = ["parts" if need == "codes" else need for need in task.needs]
    # Without words, an instruction that builds on REC's would be asked with the box that is to be found.
    words = ["text"] if task.prompt.startswith(Rec.prompt) else []
    return words + wanted


def task_rows(rows: ReferringDataset, name: str) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows (int64) a task is asked about, and why the others are left out: reason -> number of rows.

    Rows of our own files are asked about when they know what is scored, about exactly one person. Those of published
    files always are, but for words that are the whole of a question.
    """
    needs = _needs(name) if rows.kind == OWN else ["text"] if TASKS[name].by_words else []
    lacking = rows.shortfall(needs) if needs else {}
    left = np.ones(len(rows), bool)
    for missing in lacking.values():
        left &= ~missing
    return np.flatnonzero(left), {reason: int(missing.sum()) for reason, missing in lacking.items()}


def check_model(predictor: RefHCMPredictor, names: Sequence[str]) -> None:
    """Raise RefHCMError where the model lacks the label-map tokenizer that one of these tasks is scored with."""
    for name in names:
        if "codes" in TASKS[name].needs and predictor.label_map is None:
            raise RefHCMError(
                f"The model has no label-map tokenizer, so the part maps of task {name} cannot be scored: "
                "copy label_map.json and label_map.safetensors into its folder, or leave the task out."
            )


def choose_rows(
    rows: ReferringDataset, limit: int | None, among: Sequence[int] | np.ndarray | None = None
) -> tuple[list[int], int]:
    """Which rows (of all, or of those `among` which are given) a limit leaves, and how many pictures they are of.

    The rows are spread evenly over the file; where that passes over a picture although the limit has room for all,
    its first row takes the place of one of a picture that has several. RefHCMError without rows or below a limit of 1.
    """
    if limit is not None and limit < 1:
        raise RefHCMError(f"A limit of {limit} rows leaves nothing to score: it is 1 or more.")
    offered = range(len(rows)) if among is None else [int(row) for row in among]
    if not len(offered):
        raise RefHCMError(f"{rows.file.path} has no rows{' that know enough' if len(rows) else ''}.")
    keys = [rows.picture_key(row) for row in offered]
    count = min(len(keys), limit or len(keys))
    chosen = {row * len(keys) // count for row in range(count)}
    taken = Counter(keys[row] for row in chosen)
    missed = {key: row for row, key in reversed(list(enumerate(keys))) if key not in taken}
    if len(taken) + len(missed) <= count:
        for key, row in missed.items():
            ((fullest, _),) = taken.most_common(1)
            chosen.remove(max(other for other in chosen if keys[other] == fullest))
            chosen.add(row)
            taken.update({fullest: -1, key: 1})
    return [offered[place] for place in sorted(chosen)], len(taken)


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
    published_paste: bool = False,
    progress: bool = True,
) -> Evaluation:
    """Ask one task about every row of a dataset file and score the answers at the pictures' own resolution.

    Args:
        path: A TSV in the layout `kind` (see `data.dataset.LAYOUTS`).
        task_name: One of `fitting_tasks(kind)`.
        limit: Take only so many rows (see `choose_rows`).
        published_paste: Take the likeliest code at each place and put part maps back into pictures with stepped
            outlines, as the published evaluation does, to compare with its figures.

    Rows that do not know enough are left out, and counted in the result. Raises RefHCMError where the layout does not
    know enough for the task, and for a row that cannot be used.
    """
    check_tasks(kind, [task_name])
    task = predictor.task(task_name)
    check_model(predictor, [task_name])
    label_map = predictor.label_map if "codes" in task.needs else None
    paste: Paste = _paste_published if published_paste else paste_logits
    rows = ReferringDataset(path, kind, parts=label_map is not None or kind == "person", scoring=True)
    asked, left_out = task_rows(rows, task_name)
    chosen, _ = choose_rows(rows, limit, asked)
    scorer, ceiling, result = task.scorer(), ParsingMeter(), Evaluation(task_name, left_out=left_out)
    tally = FaultTally({str(rows.file.path): len(rows)}, share=0.0)
    for batch in tqdm(
        _batches(rows, task, predictor, batch_size, chosen, workers), desc=task_name, disable=not progress
    ):
        tally.add(batch.get("faults", ()))
        readings = _answer(predictor, task, batch, beam)
        if label_map is not None:
            _fill_parts(label_map, readings, batch["annotations"], paste)
            for annotation in batch["annotations"]:
                ceiling.add(round_trip(label_map, annotation, paste), annotation.parts)
        _add(scorer, result, readings, batch["annotations"])
    result.scores = scorer.result()
    if label_map is not None:
        result.scores["parsing/oracle_miou"] = ceiling.result().get("miou", float("nan"))
    return result


def _batches(
    rows: ReferringDataset, task: Task, predictor: RefHCMPredictor, batch_size: int, chosen: list[int], workers: int
) -> DataLoader[Batch]:
    config = predictor.model.config
    data = SampleDataset(
        rows, [task], config.image_size, mean=config.image_mean, std=config.image_std, set_aside=True, targets=False,
        chosen=chosen,
    )  # fmt: skip
    return DataLoader(data, batch_size, collate_fn=collate, num_workers=workers)


@torch.inference_mode()
def _answer(predictor: RefHCMPredictor, task: Task, batch: Batch, beam: int) -> list[Reading]:
    device, model = predictor.device, predictor.model
    inputs = {k: v.to(device) for k, v in batch["net_input"].items() if k not in ("prev_output_tokens", "blocks")}
    features = model.image_features(inputs["patch_images"].to(predictor.dtype))
    memory = model.encode(inputs["src_tokens"], features, inputs["patch_masks"], inputs["image_index"])
    found = generate(model, memory, task.grammar(), beam)
    return [task.read(best[0], q.size) for best, q in zip(found, batch["questions"], strict=True)]


@torch.inference_mode()
def _fill_parts(
    label_map: LabelMapTokenizer, readings: Sequence[Reading], truth: Sequence[Annotation], paste: Paste
) -> None:
    maps = part_logits(label_map, readings, likeliest=paste is _paste_published)
    for reading, logits, annotation in zip(readings, maps, truth, strict=True):
        width, height = annotation.size
        assert reading.box is not None
        reading.parts = paste(logits, reading.box, (height, width))


def _paste_published(logits: torch.Tensor, box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    return paste_labels(logits.argmax(0).cpu().numpy(), box, size)


@torch.inference_mode()
def round_trip(label_map: LabelMapTokenizer, annotation: Annotation, paste: Paste = paste_logits) -> np.ndarray:
    """The true part map after encoding and decoding, in its true box: the best that any answer could score."""
    assert annotation.parts is not None and annotation.box is not None
    config = label_map.config
    crop = crop_part_map(classes_only(annotation.parts), annotation.box, (config.height, config.width))
    device = next(label_map.parameters()).device
    logits = label_map.decode_logits(label_map.encode(torch.from_numpy(crop)[None].to(device)))[0]
    return paste(logits, annotation.box, annotation.parts.shape)


def _add(scorer: Scorer, result: Evaluation, readings: Sequence[Reading], truth: Sequence[Annotation]) -> None:
    for reading, annotation in zip(readings, truth, strict=True):
        scorer.add(reading, annotation)
        result.samples += 1
        result.invalid += any(_faults(reading, annotation.size))


def _faults(reading: Reading, size: tuple[int, int]) -> Iterator[bool]:
    """What would make an answer unusable, looked for in what was read rather than trusted to the grammar."""
    width, height = size
    if reading.box is not None:
        x1, y1, x2, y2 = reading.box
        yield not all(map(isfinite, reading.box)) or not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height)
    if reading.keypoints is not None:
        places = reading.keypoints[:, :2]
        yield not np.isfinite(reading.keypoints).all()
        yield bool((places < 0).any() or (places > np.array([width, height], np.float32) + 1e-3).any())
    if reading.codes is not None:
        yield len(reading.codes) != N_CODES
    if reading.parts is not None:
        yield reading.parts.shape != (height, width) or int(reading.parts.max()) >= len(PART_NAMES)
    if reading.caption is not None:
        yield not reading.caption
